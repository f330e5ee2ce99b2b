// Package clientnet tells which addresses are counted as one client.
package clientnet

import "net/netip"

// Of returns the network of an address, by its first address: an IPv6 /64, of which one
// client can have all addresses. An IPv4 address, and one of this machine, is its own.
func Of(a netip.Addr) netip.Addr {
	if !a.Is6() || a.IsLoopback() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
