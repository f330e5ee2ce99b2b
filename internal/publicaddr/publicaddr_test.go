package publicaddr

import (
	"net/netip"
	"testing"
)

func TestOnlyInternetAddressesArePublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"93.184.216.34": true, "2606:4700::1111": true, "64:ff9b::5db8:d822": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "127.8.8.8": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "224.0.0.1": false,
		"255.255.255.255": false, "192.0.2.1": false, "::1": false, "::": false, "fe80::1": false, "fc00::1": false,
		"fd12::1": false, "ff02::1": false, "::ffff:10.0.0.1": false, "::ffff:127.0.0.1": false, "64:ff9b::a00:1": false,
		"2001:db8::1": false, "::127.0.0.1": false, "64:ff9b:1::a00:1": false, "2002:7f00:1::1": false, "2001::1": false,
		"2001:4860:4860::8888": true, "fe80::1%eth0": false, "64:ff9b::7f00:1": false,
	} {
		if got := Public(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Public(%s) = %t, want %t", addr, got, want)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("the zero address is public")
	}
}

// Each block of IANA's special-purpose registries is known by its first and its
// last address, and what lies beside it is public where it should be.
func TestEveryBlockOfTheRegistries(t *testing.T) {
	for _, tt := range []struct {
		block         string
		before, after bool // whether the addresses beside it are public
	}{
		{"0.0.0.0/8", false, true}, {"10.0.0.0/8", true, true}, {"100.64.0.0/10", true, true}, {"127.0.0.0/8", true, true},
		{"169.254.0.0/16", true, true}, {"172.16.0.0/12", true, true}, {"192.0.0.0/24", true, true}, {"192.0.2.0/24", true, true},
		{"192.88.99.0/24", true, true}, {"192.168.0.0/16", true, true}, {"198.18.0.0/15", true, true}, {"198.51.100.0/24", true, true},
		{"203.0.113.0/24", true, true}, {"224.0.0.0/4", true, false}, {"240.0.0.0/4", false, false},
		{"::/8", false, false}, {"::/96", false, false}, {"::ffff:0:0:0/96", false, false}, {"64:ff9b:1::/48", false, false},
		{"100::/64", false, false}, {"100:0:0:1::/64", false, false}, {"2001::/23", true, true}, {"2001::/32", true, false},
		{"2001:2::/48", false, false}, {"2001:10::/28", false, false}, {"2001:db8::/32", true, true}, {"2002::/16", true, true},
		{"3fff::/20", true, true}, {"5f00::/16", false, false}, {"4000::/3", true, false}, {"e000::/4", false, false},
		{"fc00::/7", false, false}, {"fe80::/10", false, false}, {"fec0::/10", false, false}, {"ff00::/8", false, false},
	} {
		p := netip.MustParsePrefix(tt.block)
		first, last := p.Masked().Addr(), lastOf(p)
		for _, a := range []netip.Addr{first, last} {
			if Public(a) {
				t.Errorf("%s of %s is public", a, tt.block)
			}
		}
		if a := first.Prev(); a.IsValid() && Public(a) != tt.before {
			t.Errorf("%s before %s: public %t", a, tt.block, !tt.before)
		}
		if a := last.Next(); a.IsValid() && Public(a) != tt.after {
			t.Errorf("%s after %s: public %t", a, tt.block, !tt.after)
		}
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// An IPv4 address in an IPv6 one is no way around.
func TestEmbeddedAddresses(t *testing.T) {
	for _, v4 := range []string{"127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "100.64.0.1", "8.8.8.8"} {
		b := netip.MustParseAddr(v4).As4()
		public := v4 == "8.8.8.8"
		put := func(prefix string, at int) netip.Addr {
			a := netip.MustParseAddr(prefix).As16()
			copy(a[at:], b[:])
			return netip.AddrFrom16(a)
		}
		for _, tt := range []struct {
			name string
			addr netip.Addr
			want bool
		}{
			{"mapped", put("::ffff:0:0", 12), public},
			{"NAT64", put("64:ff9b::", 12), public},
			{"compatible", put("::", 12), false},
			{"translated", put("::ffff:0:0:0", 12), false},
			{"NAT64 of a site's own", put("64:ff9b:1::", 12), false},
			{"6to4", put("2002::", 2), false},
			{"Teredo server", put("2001::", 4), false},
		} {
			if got := Public(tt.addr); got != tt.want {
				t.Errorf("%s, %s (%s): public %t", v4, tt.name, tt.addr, got)
			}
		}
	}
}
