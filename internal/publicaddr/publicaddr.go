// Package publicaddr tells public Internet addresses from those that a stranger
// must not make this relay connect to: MX hosts, policy hosts and report URLs
// are chosen by whoever owns the recipient's domain.
package publicaddr

import "net/netip"

// special are the address blocks that are not on the public Internet, beyond
// what net/netip knows by itself (RFC 6890 and its registry).
var special = func() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"192.88.99.0/24", "203.0.113.0/24", "240.0.0.0/4", "100::/64", "2001:db8::/32", "fec0::/10",
		// These can carry any IPv4 address in them: compatible, NAT64 of a
		// site's own, Teredo, 6to4. No mail or policy host has one.
		"::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

// nat64 carries an IPv4 address in its last 32 bits (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// Public reports whether a is a unicast address of the public Internet. An
// IPv4 address in IPv6 clothes (mapped, NAT64) is judged as the IPv4 address.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(a.WithZone("")) {
			return false
		}
	}
	return true
}
