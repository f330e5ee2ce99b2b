package dnsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// zone is a DNS server with a hand-written answer to each question.
type zone struct {
	addr    string
	asked   atomic.Int64
	answers sync.Map // "name TYPE" → func(*dns.Msg, udp bool) bool: whether to answer
	// raw, where it is set, makes all answers, as octets.
	raw func(q *dns.Msg, udp bool) [][]byte
}

func newZone(t testing.TB, tlsConfig *tls.Config) *zone {
	t.Helper()
	z := &zone{}
	z.start(t, tlsConfig)
	return z
}

func (z *zone) start(t testing.TB, tlsConfig *tls.Config) {
	t.Helper()
	pc, l := listenBoth(t)
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	z.addr = pc.LocalAddr().String()
	var wg sync.WaitGroup
	servers := []*dns.Server{{PacketConn: pc}, {Listener: l}}
	t.Cleanup(func() {
		for _, s := range servers {
			_ = s.Shutdown()
		}
		wg.Wait()
	})
	for _, s := range servers {
		s.Handler = dns.HandlerFunc(z.serve)
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { _ = s.ActivateAndServe() })
		<-started
	}
}

// listenBoth finds a port that is free for UDP and TCP.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l, err := net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			return pc, l
		}
		pc.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

func (z *zone) serve(w dns.ResponseWriter, q *dns.Msg) {
	if z.raw != nil {
		for _, wire := range z.raw(q, w.RemoteAddr().Network() == "udp") {
			if wire != nil {
				_, _ = w.Write(wire)
			}
		}
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	key := q.Question[0].Name + " " + dns.TypeToString[q.Question[0].Qtype]
	f, ok := z.answers.Load(key)
	if root := key == ". NS"; !root {
		z.asked.Add(1)
	} else if !ok {
		m.AuthenticatedData = true
		_ = w.WriteMsg(m)
		return
	}
	if ok {
		if !f.(func(*dns.Msg, bool) bool)(m, w.RemoteAddr().Network() == "udp") {
			return
		}
	} else {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m)
}

func (z *zone) set(name, qtype string, f func(m *dns.Msg, udp bool) bool) {
	z.answers.Store(name+" "+qtype, f)
}

// records answers with records.
func (z *zone) records(t testing.TB, name, qtype string, rrs ...string) {
	t.Helper()
	var parsed []dns.RR
	for _, r := range rrs {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, rr)
	}
	z.set(name, qtype, func(m *dns.Msg, _ bool) bool { m.Answer = parsed; m.AuthenticatedData = true; return true })
}

func (z *zone) rcode(name, qtype string, rcode int) {
	z.set(name, qtype, func(m *dns.Msg, _ bool) bool { m.Rcode = rcode; return true })
}

func newTestClient(t testing.TB, o Options) *Client {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 300 * time.Millisecond
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestAnswers(t *testing.T) {
	z := newZone(t, nil)
	z.records(t, "a.example.", "TXT", `a.example. 60 IN TXT "v=STS" "v1; id=1"`, `a.example. 60 IN TXT "v=quote \" and \195\169"`, `a.example. 60 IN TXT "google-site-verification=1"`)
	z.records(t, "a.example.", "MX", "a.example. 60 IN MX 20 B.Example.", "a.example. 60 IN MX 10 c.example.", "a.example. 60 IN MX 10 A.example.")
	z.records(t, "null.example.", "MX", "null.example. 60 IN MX 0 .")
	z.records(t, "a.example.", "A", "a.example. 60 IN A 192.0.2.1")
	z.records(t, "a.example.", "AAAA", "a.example. 60 IN AAAA 2001:db8::1")
	z.records(t, "_25._tcp.a.example.", "TLSA", "_25._tcp.a.example. 60 IN TLSA 3 1 1 0102")
	c := newTestClient(t, Options{Servers: []string{z.addr}})
	txt, err := c.TXT(t.Context(), "A.Example", false)
	if err != nil || !slices.Equal(txt.Records, []string{"v=STSv1; id=1", "v=quote \" and \xc3\xa9"}) || !txt.Secure || txt.TTL != time.Minute {
		t.Errorf("TXT: %q, %v", txt.Records, err)
	}
	mx, err := c.MX(t.Context(), "a.example")
	if want := []MX{{"a.example", 10}, {"c.example", 10}, {"b.example", 20}}; err != nil || !slices.Equal(mx.Records, want) {
		t.Errorf("MX: %v, %v", mx, err)
	}
	if mx, err = c.MX(t.Context(), "null.example"); err != nil || mx.Records[0].Host != "." {
		t.Errorf("null MX: %v, %v", mx, err)
	}
	addrs, err := c.Addrs(t.Context(), "a.example")
	if err != nil || len(addrs.Addrs) != 2 || !addrs.Secure || addrs.Name != "a.example" {
		t.Errorf("addresses: %+v, %v", addrs, err)
	}
	tlsa, err := c.TLSA(t.Context(), "_25._tcp.a.example")
	if err != nil || tlsa.Records[0].Usage != 3 || len(tlsa.Records[0].Data) != 2 {
		t.Errorf("TLSA: %+v, %v", tlsa, err)
	}
}

func TestErrorsAreOfThreeKinds(t *testing.T) {
	z := newZone(t, nil)
	z.set("empty.example.", "MX", func(*dns.Msg, bool) bool { return true })
	z.rcode("servfail.example.", "MX", dns.RcodeServerFailure)
	z.rcode("refused.example.", "MX", dns.RcodeRefused)
	z.set("silent.example.", "MX", func(*dns.Msg, bool) bool { return false })
	z.set("other.example.", "MX", func(m *dns.Msg, _ bool) bool { m.Question[0].Name = "evil.example."; return true })
	z.records(t, "loop.example.", "MX", "loop.example. 60 IN CNAME loop2.example.")
	z.records(t, "loop2.example.", "MX", "loop2.example. 60 IN CNAME loop.example.")
	z.set("bogus.example.", "MX", func(m *dns.Msg, _ bool) bool {
		m.Rcode = dns.RcodeServerFailure
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus})
		return true
	})
	c := newTestClient(t, Options{Servers: []string{z.addr}, Timeout: 50 * time.Millisecond})
	for name, want := range map[string]error{
		"nowhere.example": ErrNXDomain, "empty.example": ErrNoData, "servfail.example": ErrTemporary, "refused.example": ErrTemporary,
		"silent.example": ErrTemporary, "other.example": ErrTemporary, "loop.example": ErrTemporary, "bogus.example": ErrTemporary,
	} {
		_, err := c.MX(t.Context(), name)
		if !errors.Is(err, want) || IsNotFound(err) == errors.Is(want, ErrTemporary) || !strings.HasPrefix(err.Error(), "MX of "+name+": ") {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := c.MX(t.Context(), "bogus.example"); !strings.Contains(err.Error(), "DNSSEC Bogus") {
		t.Errorf("%v", err)
	}
}

func TestAliases(t *testing.T) {
	z := newZone(t, nil)
	z.records(t, "in.example.", "TXT", "in.example. 60 IN CNAME end.example.", `end.example. 30 IN TXT "v=x"`)
	z.records(t, "over.example.", "TXT", "over.example. 60 IN CNAME next.example.")
	z.records(t, "next.example.", "TXT", "next.example. 60 IN CNAME end.example.")
	z.records(t, "end.example.", "TXT", `end.example. 30 IN TXT "v=x"`)
	z.records(t, "dead.example.", "TXT", "dead.example. 60 IN CNAME nowhere.example.")
	c := newTestClient(t, Options{Servers: []string{z.addr}})
	for _, name := range []string{"in.example", "over.example"} {
		got, err := c.TXT(t.Context(), name, false)
		if err != nil || got.Records[0] != "v=x" || got.CNAME != "end.example" || got.TTL != 30*time.Second || !got.Secure {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := c.TXT(t.Context(), "dead.example", false); !errors.Is(err, ErrNXDomain) {
		t.Error(err)
	}
}

func TestServersAreTriedInTurnAndTCPWhereUDPIsCut(t *testing.T) {
	good, bad := newZone(t, nil), newZone(t, nil)
	good.set("a.example.", "MX", func(m *dns.Msg, udp bool) bool {
		m.Truncated = udp
		if !udp {
			m.Answer = []dns.RR{must(dns.NewRR("a.example. 60 IN MX 10 mx.example."))}
		}
		return true
	})
	bad.rcode("a.example.", "MX", dns.RcodeServerFailure)
	for name, servers := range map[string][]string{"dead first": {"127.0.0.1:1", good.addr}, "failing first": {bad.addr, good.addr}} {
		c := newTestClient(t, Options{Servers: servers})
		if mx, err := c.MX(t.Context(), "a.example"); err != nil || mx.Records[0].Host != "mx.example" {
			t.Errorf("%s: %v, %v", name, mx, err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTheCacheKeepsWhatItMay(t *testing.T) {
	z := newZone(t, nil)
	z.records(t, "a.example.", "MX", "a.example. 60 IN MX 10 mx.example.")
	z.set("soa.example.", "MX", func(m *dns.Msg, _ bool) bool {
		m.Ns = []dns.RR{must(dns.NewRR("example. 300 IN SOA a. b. 1 1 1 1 30"))}
		m.Rcode = dns.RcodeNameError
		return true
	})
	for name, rcode := range map[string]int{"alias.example.": dns.RcodeNameError, "nodata.example.": dns.RcodeSuccess} {
		z.set(name, "MX", func(m *dns.Msg, _ bool) bool {
			m.Answer = []dns.RR{must(dns.NewRR(name + " 20 IN CNAME end.example."))}
			m.Ns = []dns.RR{must(dns.NewRR("example. 300 IN SOA a. b. 1 1 1 1 300"))}
			m.Rcode = rcode
			return true
		})
	}
	z.set("end.example.", "MX", func(m *dns.Msg, _ bool) bool {
		m.Ns = []dns.RR{must(dns.NewRR("example. 300 IN SOA a. b. 1 1 1 1 300"))}
		return true
	})
	z.rcode("fail.example.", "MX", dns.RcodeServerFailure)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	c := newTestClient(t, Options{Servers: []string{z.addr}, Attempts: 1, Now: func() time.Time { return now }})
	for _, tt := range []struct {
		name  string
		after time.Duration
		asks  bool
	}{
		{"a.example", 0, true}, {"a.example", 59 * time.Second, false}, {"a.example", 2 * time.Second, true},
		{"soa.example", 0, true}, {"soa.example", 29 * time.Second, false}, {"soa.example", 2 * time.Second, true},
		{"nosoa.example", 0, true}, {"nosoa.example", 0, true},
		{"fail.example", 0, true}, {"fail.example", 4 * time.Second, false}, {"fail.example", 2 * time.Second, true},
		{"a.example", 0, false}, {"a.example", -time.Hour, true}, // the clock was set back
		{"alias.example", 0, true}, {"alias.example", 19 * time.Second, false}, {"alias.example", 2 * time.Second, true},
		{"nodata.example", 0, true}, {"nodata.example", 19 * time.Second, false}, {"nodata.example", 2 * time.Second, true},
	} {
		now = now.Add(tt.after)
		before := z.asked.Load()
		_, _ = c.MX(t.Context(), tt.name)
		if asked := z.asked.Load() > before; asked != tt.asks {
			t.Errorf("%s after %s: asked %t", tt.name, tt.after, asked)
		}
	}
}

func TestFreshGoesPastTheCache(t *testing.T) {
	z := newZone(t, nil)
	z.records(t, "a.example.", "TXT", `a.example. 60 IN TXT "v=1"`)
	c := newTestClient(t, Options{Servers: []string{z.addr}})
	_, _ = c.TXT(t.Context(), "a.example", false)
	z.records(t, "a.example.", "TXT", `a.example. 60 IN TXT "v=2"`)
	for _, fresh := range []bool{false, true, false} {
		got, err := c.TXT(t.Context(), "a.example", fresh)
		want := "v=1"
		if fresh || z.asked.Load() > 1 {
			want = "v=2"
		}
		if err != nil || got.Records[0] != want {
			t.Errorf("fresh %t: %v, %v", fresh, got, err)
		}
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	z := newZone(t, nil)
	c := newTestClient(t, Options{Servers: []string{z.addr}, CacheBytes: 10_000})
	for i := range 50 {
		name := fmt.Sprintf("n%d.example", i)
		z.records(t, name+".", "MX", name+". 60 IN MX 10 mx.example.")
		_, _ = c.MX(t.Context(), name)
	}
	if n := len(c.cache.entries); n < 10 || n > 25 || c.cache.used.Len() != n || c.cache.octets > 10_000 {
		t.Errorf("%d entries of %d octets", n, c.cache.octets)
	}
}

func TestTheSameQuestionIsAskedOnce(t *testing.T) {
	z := newZone(t, nil)
	gate := make(chan struct{})
	z.set("a.example.", "MX", func(m *dns.Msg, _ bool) bool {
		<-gate
		m.Answer = []dns.RR{must(dns.NewRR("a.example. 60 IN MX 10 mx.example."))}
		return true
	})
	c := newTestClient(t, Options{Servers: []string{z.addr}, Timeout: 5 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range 100 {
		wg.Go(func() {
			ctx := ctx
			if i > 0 {
				ctx = t.Context()
			}
			if _, err := c.MX(ctx, "a.example"); err != nil {
				failed.Add(1)
			}
		})
	}
	cancel() // one gives up
	close(gate)
	wg.Wait()
	if n := z.asked.Load(); n != 1 || failed.Load() > 1 {
		t.Errorf("asked %d times, %d failed", n, failed.Load())
	}
}

func TestWhoIsBelieved(t *testing.T) {
	for _, tt := range []struct {
		server, trust string
		want          bool
	}{
		{"127.0.0.1", "auto", true}, {"[::1]:53", "auto", true}, {"127.0.0.11", "auto", false}, {"192.0.2.1", "auto", false},
		{"tls://192.0.2.1#dns.example", "auto", true}, {"192.0.2.1", "always", true}, {"127.0.0.11", "always", true}, {"127.0.0.1", "never", false},
		{"tls://192.0.2.1", "never", false},
	} {
		c := newTestClient(t, Options{Servers: []string{tt.server}, TrustAD: tt.trust})
		if s := c.Servers()[0]; s.Believed != tt.want || s.Why.IsZero() {
			t.Errorf("%s, %s: %+v", tt.server, tt.trust, s)
		}
	}
	z := newZone(t, nil)
	z.records(t, "a.example.", "MX", "a.example. 60 IN MX 10 mx.example.")
	if mx, err := newTestClient(t, Options{Servers: []string{z.addr}, TrustAD: "never"}).MX(t.Context(), "a.example"); err != nil || mx.Secure {
		t.Errorf("AD of a server that is not believed counts: %+v, %v", mx, err)
	}
}

func TestDNSOverTLS(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	cert, err := n.CA.Issue("dns.example", testnet.CertSpec{})
	if err != nil {
		t.Fatal(err)
	}
	z := newZone(t, &tls.Config{Certificates: []tls.Certificate{cert}})
	z.records(t, "a.example.", "MX", "a.example. 60 IN MX 10 mx.example.")
	z.records(t, "b.example.", "MX", "b.example. 60 IN MX 10 mx.example.")
	good := newTestClient(t, Options{Servers: []string{"tls://" + z.addr + "#dns.example"}, Roots: n.CA.Roots()})
	for _, name := range []string{"a.example", "b.example"} { // the second over the kept connection
		if mx, err := good.MX(t.Context(), name); err != nil || !mx.Secure {
			t.Errorf("%s: %+v, %v", name, mx, err)
		}
	}
	bad := newTestClient(t, Options{Servers: []string{"tls://" + z.addr + "#other.example"}, Roots: n.CA.Roots()})
	if _, err := bad.MX(t.Context(), "a.example"); !errors.Is(err, ErrTemporary) {
		t.Errorf("a certificate for another name: %v", err)
	}
}

func TestResolvConf(t *testing.T) {
	got := parseResolvConf([]byte("# comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nnameserver x\noptions edns0\n"))
	if want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newTestClient(t, Options{ResolvConf: file})
	if s := c.Servers()[0]; s.Address != "192.0.2.1:53" {
		t.Errorf("%+v", s)
	}
	if err := os.WriteFile(file, []byte("nameserver 192.0.2.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Now(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c.confSeen = time.Time{}
	if s := c.Servers()[0]; s.Address != "192.0.2.2:53" {
		t.Errorf("after a change: %+v", s)
	}
	if _, err := New(Options{ResolvConf: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func TestParseServer(t *testing.T) {
	for in, want := range map[string]string{"127.0.0.1": "127.0.0.1:53", "::1": "[::1]:53", "[::1]": "[::1]:53", "[::1]:5353": "[::1]:5353", "tls://9.9.9.9": "9.9.9.9:853", "tls://9.9.9.9:8853#a.b": "9.9.9.9:8853"} {
		if s, err := ParseServer(in); err != nil || s.Address.String() != want {
			t.Errorf("%s: %v, %v", in, s, err)
		}
	}
	for _, in := range []string{"", "resolver", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:0", "tls://host:853", "https://1.1.1.1/dns-query"} {
		if s, err := ParseServer(in); err == nil {
			t.Errorf("%q is taken as %v", in, s)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("a.example.", dns.TypeTXT)
	m.Answer = []dns.RR{must(dns.NewRR(`a.example. 60 IN CNAME b.example.`)), must(dns.NewRR(`b.example. 60 IN TXT "x\"\195"`))}
	f.Add(must(m.Pack()))
	f.Fuzz(func(t *testing.T, wire []byte) {
		q := newQuery("a.example.", dns.TypeTXT, true)
		m, err := (*dns.Msg)(nil), error(nil)
		if answers(wire, q) || len(wire) >= headerSize {
			m, err = unpack(wire)
		}
		if m == nil || err != nil {
			return
		}
		for _, qtype := range []uint16{dns.TypeTXT, dns.TypeMX, dns.TypeA, dns.TypeTLSA} {
			a := &answer{ttl: maxTTL}
			a.read(m, "a.example.", qtype)
			a.records.finish()
			if n := a.records; len(n.mx) > maxMX || len(n.addrs) > maxAddrs || a.size() <= 0 {
				t.Errorf("%d MX, %d addresses, %d octets", len(n.mx), len(n.addrs), a.size())
			}
			if a.ttl < 0 || a.ttl > maxTTL {
				t.Errorf("TTL %s", a.ttl)
			}
		}
		_, _, _ = extendedError(m), isBogus(m), isReferral(m)
	})
}
