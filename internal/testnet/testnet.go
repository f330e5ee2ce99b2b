// Package testnet is a small Internet on loopback: real DNS, real HTTPS policy
// hosts and real SMTP hosts with real TLS, each with any fault that is asked
// for. Tests that cross packages use it, and so does `stsrelay demo`.
//
// It shares no code with the relay, so that it cannot share its mistakes.
//
//	n, err := testnet.New(testnet.Options{})
//	defer n.Close()
//	host, err := n.AddHost("mx1.example.org")
//	n.AddDomain("example.org", testnet.Domain{
//		MX:     []string{"mx1.example.org"},
//		Policy: testnet.Policy{ID: "1", Mode: "enforce", MX: []string{"mx1.example.org"}, MaxAge: 86400},
//	})
//	host.Set(testnet.Faults{NoStartTLS: true})
//	… deliver through n.DNS.Addr() and n.DialContext …
//	m, err := host.Wait(ctx, 1)
//
// Every host has an address of its own in 127.0.0.0/8. By default they listen
// on free ports, and DialContext leads a connection to "127.x.y.z:25" there;
// with RealPorts they listen on 25 and 443 themselves, for tests of a whole
// process.
package testnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options configures New.
type Options struct {
	// RealPorts binds ports 25 and 443, which the system may not allow.
	RealPorts bool
	// Now is the date of certificates; default time.Now.
	Now func() time.Time
}

// Net is a running Internet.
type Net struct {
	DNS *DNS
	CA  *CA

	options Options
	base    [2]byte // second and third octet of the addresses
	wg      sync.WaitGroup

	mu        sync.Mutex
	next      byte
	ports     map[string]string // "127.x.y.z:25" → where it really listens
	listeners map[net.Listener]bool
	hosts     map[string]*Host
	web       *web
	receivers []*ReportHost
	sinks     []*Sink
}

// New starts the DNS server; hosts and domains are added later.
func New(o Options) (*Net, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	n := &Net{
		options: o, base: [2]byte{byte(1 + rand.IntN(250)), byte(rand.IntN(250))},
		ports: make(map[string]string), listeners: make(map[net.Listener]bool), hosts: make(map[string]*Host),
	}
	var err error
	if n.CA, err = newCA(o.Now); err != nil {
		return nil, err
	}
	if n.DNS, err = newDNS(&n.wg); err != nil {
		return nil, err
	}
	n.web = &web{net: n, sites: make(map[string]*PolicyHost)}
	return n, nil
}

// Close ends everything and waits for it.
func (n *Net) Close() {
	n.DNS.close()
	n.mu.Lock()
	for l := range n.listeners {
		l.Close()
	}
	hosts := make([]*Host, 0, len(n.hosts))
	for _, h := range n.hosts {
		hosts = append(hosts, h)
	}
	sinks := n.sinks
	n.mu.Unlock()
	for _, h := range hosts {
		h.closeSessions()
	}
	for _, s := range sinks {
		s.close()
	}
	n.web.close()
	n.mu.Lock()
	receivers := n.receivers
	n.mu.Unlock()
	for _, h := range receivers {
		h.server.Close()
	}
	n.wg.Wait()
}

// address gives out an address that nobody has yet.
func (n *Net) address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	if n.next == 255 {
		n.next = 1
		n.base[1]++
	}
	return fmt.Sprintf("127.%d.%d.%d", n.base[0], n.base[1], n.next)
}

// listen opens the port of an address, or a free one that stands for it.
func (n *Net) listen(ip, port string) (net.Listener, error) {
	real := port
	if !n.options.RealPorts {
		real = "0"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(ip, real))
	if err != nil {
		return nil, fmt.Errorf("the fake Internet cannot listen: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[net.JoinHostPort(ip, port)] = l.Addr().String()
	n.listeners[l] = true
	return l, nil
}

// unlisten closes a port: connections are refused from then on.
func (n *Net) unlisten(l net.Listener, ip, port string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.ports, net.JoinHostPort(ip, port))
	delete(n.listeners, l)
	l.Close()
}

// DialContext connects to an address of this Internet, "127.x.y.z:25" or
// "127.x.y.z:443". There is nothing else: other addresses refuse.
func (n *Net) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	to, ok := n.ports[address]
	n.mu.Unlock()
	if !ok {
		refused := &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		if addr, err := netip.ParseAddrPort(address); err == nil {
			refused.Addr = net.TCPAddrFromAddrPort(addr)
		}
		return nil, refused
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// Policy is what a domain publishes for MTA-STS. The zero Policy is none.
type Policy struct {
	ID     string // of the TXT record
	Mode   string
	MX     []string
	MaxAge int // seconds
}

func (p Policy) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\nmode: %s\n", p.Mode)
	for _, m := range p.MX {
		fmt.Fprintf(&b, "mx: %s\n", m)
	}
	fmt.Fprintf(&b, "max_age: %d\n", p.MaxAge)
	return b.String()
}

// Domain is what a domain publishes.
type Domain struct {
	// MX are its hosts; the first has preference 10, the next 20, and so on.
	MX     []string
	Policy Policy
	// TLSRPT is the rua of its TLS-RPT record, "" for none.
	TLSRPT string
}

// AddDomain publishes a domain, or publishes it anew.
func (n *Net) AddDomain(name string, d Domain) error {
	n.DNS.Remove(name, "MX")
	for i, mx := range d.MX {
		if err := n.DNS.Add(fmt.Sprintf("%s. 60 IN MX %d %s.", name, 10*(i+1), strings.TrimSuffix(mx, "."))); err != nil {
			return err
		}
	}
	if d.TLSRPT != "" {
		n.DNS.Remove("_smtp._tls."+name, "TXT")
		if err := n.DNS.Add(fmt.Sprintf("_smtp._tls.%s. 60 IN TXT %q", name, "v=TLSRPTv1; rua="+d.TLSRPT)); err != nil {
			return err
		}
	}
	if d.Policy.Mode == "" {
		return nil
	}
	return n.SetPolicy(name, d.Policy)
}

// SetPolicy publishes a policy: the record and the text on the policy host.
func (n *Net) SetPolicy(domain string, p Policy) error {
	site, err := n.PolicyHost(domain)
	if err != nil {
		return err
	}
	site.update(func(f *PolicyHost) { f.text = p.text() })
	n.DNS.Remove("_mta-sts."+domain, "TXT")
	return n.DNS.Add(fmt.Sprintf("_mta-sts.%s. 60 IN TXT %q", domain, "v=STSv1; id="+p.ID))
}

// errClosed says that a test waits for something that can no longer come.
var errClosed = errors.New("the fake Internet is closed")
