package relay

import (
	"net"
	"net/netip"
	"strings"

	"github.com/stsrelay/stsrelay/config"
)

// IsSelf says whether a host is the relay called hostname that listens at
// listens: by its name on the port for mail between servers, or by exactly an
// address of a listener. A whole network is never meant.
func IsSelf(hostname string, listens []netip.AddrPort, host string, port uint16, addrs []netip.Addr) bool {
	if port == 25 && host == hostname {
		return true
	}
	for _, l := range listens {
		at := l.Addr().Unmap()
		for _, a := range addrs {
			if l.Port() == port && (at == a || at.IsUnspecified() && isOwn(a)) {
				return true
			}
		}
	}
	return false
}

// isOwn says whether a is an address of one of our interfaces.
func isOwn(a netip.Addr) bool {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, o := range own {
		if p, err := netip.ParsePrefix(o.String()); err == nil && p.Addr() == a {
			return true
		}
	}
	return false
}

// Listens are the addresses at which a relay with the configuration c listens,
// those without a name.
func Listens(c *config.Config) (out []netip.AddrPort) {
	for _, l := range c.Listen {
		address := l.Address
		if strings.HasPrefix(address, ":") {
			address = "0.0.0.0" + address
		}
		if a, err := netip.ParseAddrPort(address); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// isSelf says whether a host is this relay.
func (r *Relay) isSelf(host string, port uint16, addrs []netip.Addr) bool {
	var listens []netip.AddrPort
	for _, l := range r.ingress.Addrs() {
		if tcp, ok := l.(*net.TCPAddr); ok {
			listens = append(listens, tcp.AddrPort())
		}
	}
	return IsSelf(r.config.Load().Hostname, listens, host, port, addrs)
}
