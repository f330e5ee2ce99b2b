package outbound

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/happyeyeballs"
)

// DialFunc opens a connection, as net.Dialer.DialContext does. address is "IP:port".
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// familyMemory is how long an address family that failed is tried last.
const familyMemory = 10 * time.Minute

// IPFamily restricts the addresses that are contacted.
type IPFamily string

// The families.
const (
	AnyFamily IPFamily = "any"
	IPv4Only  IPFamily = "ipv4"
	IPv6Only  IPFamily = "ipv6"
)

// Admits reports whether an address may be contacted.
func (f IPFamily) Admits(a netip.Addr) bool {
	return f != IPv4Only && f != IPv6Only || (f == IPv4Only) == a.Is4()
}

// families remembers which family of addresses does not work from here.
type families struct {
	now func() time.Time

	mu     sync.Mutex
	broken [2]time.Time // until when; IPv4, IPv6
}

func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// note takes note that a was reached, or that it was not while an address of the other
// family of the same host was.
func (f *families) note(a netip.Addr, works bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken[familyIndex(a)] = time.Time{}
	if !works {
		f.broken[familyIndex(a)] = f.now().Add(familyMemory)
	}
}

// order puts addresses into the order in which they are tried: the families alternate,
// IPv6 first (RFC 8305, 4), and a broken family comes last.
func (f *families) order(addrs []netip.Addr) []netip.Addr {
	f.mu.Lock()
	now := f.now()
	broken4, broken6 := now.Before(f.broken[0]), now.Before(f.broken[1])
	f.mu.Unlock()
	var split [2][]netip.Addr
	for _, a := range addrs {
		split[familyIndex(a)] = append(split[familyIndex(a)], a)
	}
	first, second := split[1], split[0]
	if broken6 && !broken4 {
		first, second = second, first
	}
	if broken4 != broken6 {
		return append(first, second...)
	}
	return happyeyeballs.Interleave(addrs)
}

// Dialer connects to hosts, and remembers which address family works from here.
type Dialer struct {
	dial     DialFunc
	families families
}

// NewDialer returns a Dialer. now is its clock; nil: time.Now.
func NewDialer(dial DialFunc, now func() time.Time) *Dialer {
	if now == nil {
		now = time.Now
	}
	return &Dialer{dial: dial, families: families{now: now}}
}

// DialFrom returns the DialFunc of the relay itself. It binds to the source address
// of the family that is dialed, if sources has one.
func DialFrom(sources func() []netip.Addr) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var dialer net.Dialer
		if to, err := netip.ParseAddrPort(address); err == nil {
			for _, from := range sources() {
				if from.Is4() == to.Addr().Unmap().Is4() {
					dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
				}
			}
		}
		return dialer.DialContext(ctx, network, address)
	}
}

// Order puts the addresses of a host into the order in which they are dialed.
func (d *Dialer) Order(addrs []netip.Addr) []netip.Addr { return d.families.order(addrs) }

// Dial connects to the first of addrs that answers (RFC 8305, 5). It returns the
// connection, the position of its address, and how many addresses were dialed. The
// error is that of all addresses.
func (d *Dialer) Dial(ctx context.Context, addrs []netip.AddrPort, timeout time.Duration) (conn net.Conn, at, dialed int, err error) {
	r, err := happyeyeballs.Dial(ctx, addrs, timeout, d.dial)
	if err != nil {
		return nil, 0, r.Tried, err
	}
	d.noteFamilies(addrs, r.Failed, r.Index)
	return r.Conn, r.Index, r.Tried, nil
}

// noteFamilies remembers a family whose address failed where the other one's did
// not.
func (d *Dialer) noteFamilies(addrs []netip.AddrPort, failed []bool, won int) {
	winner := addrs[won].Addr()
	d.families.note(winner, true)
	for i, f := range failed {
		if f && familyIndex(addrs[i].Addr()) != familyIndex(winner) {
			d.families.note(addrs[i].Addr(), false)
			return
		}
	}
}
