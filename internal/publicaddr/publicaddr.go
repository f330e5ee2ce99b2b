// Package publicaddr tells addresses of the public Internet from all others. The owner
// of a recipient domain chooses MX hosts, policy hosts and report URLs, and must not make
// this relay connect to private addresses.
package publicaddr

import (
	"net/netip"
	"slices"
)

// special are the address blocks that are not on the public Internet, beyond
// those that net/netip knows: IANA's special-purpose address registries for
// IPv4 and IPv6 (RFC 6890), without the blocks there that are global. Of IPv6,
// only blocks within global are listed.
var special = func() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4",
		"2001::/23",                  // protocol assignments: Teredo, benchmarks, ORCHID
		"2001:db8::/32", "3fff::/20", // documentation
		"2002::/16", // 6to4: like Teredo, it can carry any IPv4 address
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

// global is all of IPv6 that IANA has given out as unicast addresses of the
// Internet (RFC 4291, 2.4). Outside of it lie unique local, site-local and
// discard-only addresses, segment routing (5f00::/16), NAT64 of a site's own, and
// whatever comes next.
var global = netip.MustParsePrefix("2000::/3")

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
	a = a.WithZone("")
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !global.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}
