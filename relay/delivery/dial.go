package delivery

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/happyeyeballs"
)

// familyMemory is how long a family of addresses that failed goes last.
const familyMemory = 10 * time.Minute

// IPFamily restricts the addresses that are contacted.
type IPFamily string

// The families.
const (
	AnyFamily IPFamily = "any"
	IPv4Only  IPFamily = "ipv4"
	IPv6Only  IPFamily = "ipv6"
)

func (f IPFamily) admits(a netip.Addr) bool {
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

// note takes in that a was reached, or that it was not while the other family's
// address of the same host was.
func (f *families) note(a netip.Addr, works bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken[familyIndex(a)] = time.Time{}
	if !works {
		f.broken[familyIndex(a)] = f.now().Add(familyMemory)
	}
}

// order puts the addresses into the order in which they are tried: the families
// in turn, IPv6 first (RFC 8305, 4), a broken one last.
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

// race connects to the first of addrs that answers (RFC 8305, 5). It returns the
// connection, its position, and how many addresses it has dialed; or the errors
// of all.
func (d *Delivery) race(ctx context.Context, addrs []netip.AddrPort, timeout time.Duration) (conn net.Conn, at, tried int, err error) {
	r, err := happyeyeballs.Dial(ctx, addrs, timeout, d.dial)
	if err != nil {
		return nil, 0, r.Tried, err
	}
	d.noteFamilies(addrs, r.Failed, r.Index)
	return r.Conn, r.Index, r.Tried, nil
}

// noteFamilies remembers a family whose address failed where the other one's did
// not.
func (d *Delivery) noteFamilies(addrs []netip.AddrPort, failed []bool, won int) {
	winner := addrs[won].Addr()
	d.families.note(winner, true)
	for i, f := range failed {
		if f && familyIndex(addrs[i].Addr()) != familyIndex(winner) {
			d.families.note(addrs[i].Addr(), false)
			return
		}
	}
}

// dialFrom is the dialer of the relay itself: it binds to source_ip.
func (d *Delivery) dialFrom(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	if to, err := netip.ParseAddrPort(address); err == nil {
		for _, from := range d.settings.Load().SourceIPs {
			if from.Is4() == to.Addr().Unmap().Is4() {
				dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
			}
		}
	}
	return dialer.DialContext(ctx, network, address)
}
