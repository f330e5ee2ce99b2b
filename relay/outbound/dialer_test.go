package outbound

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func addrs(t testing.TB, s string) []netip.Addr {
	t.Helper()
	var out []netip.Addr
	for f := range strings.FieldsSeq(s) {
		out = append(out, netip.MustParseAddr(f))
	}
	return out
}

func TestTheOrderOfAddresses(t *testing.T) {
	now := time.Unix(1e9, 0)
	f := families{now: func() time.Time { return now }}
	in := addrs(t, "192.0.2.1 192.0.2.2 192.0.2.3 2001:db8::1 2001:db8::2")
	mixed := addrs(t, "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3")
	v4first := addrs(t, "192.0.2.1 192.0.2.2 192.0.2.3 2001:db8::1 2001:db8::2")
	v6first := addrs(t, "2001:db8::1 2001:db8::2 192.0.2.1 192.0.2.2 192.0.2.3")
	v4, v6 := in[0], in[4]
	for _, step := range []struct {
		name string
		do   func()
		want []netip.Addr
	}{
		{"nothing is known", func() {}, mixed},
		{"IPv6 failed", func() { f.note(v6, false) }, v4first},
		{"for a while", func() { now = now.Add(familyMemory + time.Second) }, mixed},
		{"IPv4 failed", func() { f.note(v4, false) }, v6first},
		{"IPv6 too", func() { f.note(v6, false) }, mixed},
		{"IPv4 works again", func() { f.note(v4, true) }, v4first},
	} {
		step.do()
		if got := f.order(in); !slices.Equal(got, step.want) {
			t.Errorf("%s: %v", step.name, got)
		}
	}
}

func TestConnectionsComeFromTheSourceAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := DialFrom(func() []netip.Addr { return addrs(t, "127.0.0.9") })(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.9" {
		t.Errorf("it comes from %s", got)
	}
}
