package outbound

import (
	"net"
	"net/netip"
)

// Self is this relay as a host that takes mail.
type Self struct {
	Hostname string
	// Listens are the addresses of the listeners.
	Listens []netip.AddrPort
}

// Is reports whether a host is this relay: by its name on port 25, or by exactly the
// address of a listener. A listener on all addresses stands for those of the
// interfaces, never for a whole network.
func (s Self) Is(host string, port uint16, addrs []netip.Addr) bool {
	if port == 25 && host == s.Hostname {
		return true
	}
	for _, l := range s.Listens {
		at := l.Addr().Unmap()
		for _, a := range addrs {
			if l.Port() == port && (at == a || at.IsUnspecified() && isLocal(a)) {
				return true
			}
		}
	}
	return false
}

// isLocal reports whether an address is one of this machine's interfaces.
func isLocal(a netip.Addr) bool {
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
