package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// What never answers costs no more than the timeout, and is told as such.
func TestACheckEndsInTime(t *testing.T) {
	const timeout = time.Second
	for _, tt := range []struct {
		name  string
		says  string
		setup func(w *world)
	}{
		{"MX", "the MX records could not be looked up: MX of example.org: no answer within 1s", func(w *world) { w.DNS.Fail("example.org", "MX", testnet.Silence) }},
		{"record", "no answer within 1s", func(w *world) { w.DNS.Fail("_mta-sts.example.org", "TXT", testnet.Silence) }},
		{"policy host", "no policy within 900ms", func(w *world) { w.site("example.org", testnet.PolicyFaults{Stall: true}) }},
		{"address", "the host has no address: A of mx1.example.org: no answer within 1s", func(w *world) { w.DNS.Fail("mx1.example.org", "A", testnet.Silence) }},
		{"TLSA", "the TLSA records could not be looked up", func(w *world) {
			w.sign("mx1.example.org")
			w.DNS.Fail("_25._tcp.mx1.example.org", "TLSA", testnet.Silence)
		}},
		{"greeting", "no answer within 1s", func(w *world) { w.ok(w.mx1.Set(testnet.Faults{Hang: "greeting"})) }},
		{"EHLO", "no answer within 1s", func(w *world) { w.ok(w.mx1.Set(testnet.Faults{Hang: "ehlo"})) }},
		{"STARTTLS", "no answer within 1s", func(w *world) { w.ok(w.mx1.Set(testnet.Faults{Hang: "starttls"})) }},
		{"handshake", "no answer within 1s", func(w *world) { w.ok(w.mx1.Set(testnet.Faults{Hang: "handshake"})) }},
		{"TLS-RPT", "the TLS-RPT record could not be looked up", func(w *world) { w.DNS.Fail("_smtp._tls.example.org", "TXT", testnet.Silence) }},
		{"QUIT", "verified by MTA-STS", func(w *world) { w.ok(w.mx1.Set(testnet.Faults{Hang: "quit"})) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.options.Timeout = timeout
			w.mx1 = w.host("mx1.example.org", testnet.Faults{})
			w.enforced("example.org", "mx1.example.org")
			tt.setup(w)
			begin := time.Now()
			r := Run(t.Context(), "example.org", w.options)
			if took := time.Since(begin); took > 15*timeout {
				t.Errorf("it took %s", took)
			}
			if page := flow(t, r); !strings.Contains(page, tt.says) {
				t.Errorf("does not say %q:\n%s", tt.says, page)
			}
		})
	}
}

// flow is a page as one line, so that a sentence is found however it is broken.
func flow(t testing.TB, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Text(&b, Style{}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func TestCertificatesThatEndSoonAreWarnedOf(t *testing.T) {
	w := newWorld(t)
	w.host("mx1.example.org", testnet.Faults{})
	w.enforced("example.org", "mx1.example.org")
	w.options.Now = func() time.Time { return today.AddDate(0, 0, 50) } // they are issued for two months
	r := Run(t.Context(), "example.org", w.options)
	if !r.Outcome.Deliverable || r.Hosts[0].Sessions[0].Certificate.DaysLeft != 11 {
		t.Errorf("%+v", r.Hosts[0].Sessions[0].Certificate)
	}
	page := flow(t, r)
	for _, name := range []string{"mx1.example.org", "mta-sts.example.org"} {
		if want := "warn the certificate of " + name + " ends on 2026-08-01 12:00:00 UTC"; !strings.Contains(page, want) {
			t.Errorf("does not say %q:\n%s", want, page)
		}
	}
}

func TestAnAddressLiteral(t *testing.T) {
	w := newWorld(t)
	h := w.host("mx1.example.org", testnet.Faults{})
	r := Run(t.Context(), "["+h.IP+"]", w.options)
	if !r.Outcome.Deliverable || r.MX.From != "literal" || r.Record != nil || r.TLSRPT != nil {
		t.Errorf("%+v", r)
	}
	if n := w.DNS.Asked("_mta-sts.["+h.IP+"]", "TXT"); n > 0 {
		t.Error("a policy was looked up for an address literal (RFC 8461, 3.4)")
	}
}

func TestAHostThatIsThisRelayIsNotVisited(t *testing.T) {
	w := newWorld(t)
	h := w.host(w.options.Hostname, testnet.Faults{})
	w.ok(w.AddDomain("example.org", testnet.Domain{MX: []string{h.Name}}))
	r := Run(t.Context(), "example.org", w.options)
	if r.Outcome.Deliverable || r.Outcome.Action != "bounce" || h.Counts().Connections > 0 {
		t.Errorf("%+v, %d connections", r.Outcome, h.Counts().Connections)
	}
}

// No mail is sent, whatever a host offers.
func TestNothingIsSent(t *testing.T) {
	w := newWorld(t)
	h := w.host("mx1.example.org", testnet.Faults{})
	w.enforced("example.org", h.Name)
	Run(t.Context(), "example.org", w.options)
	if c := h.Counts(); c.Mails != 0 || c.Messages != 0 || c.Handshakes != 1 {
		t.Errorf("%+v", c)
	}
}

func TestTheNumberOfHostsAndConnectionsIsBounded(t *testing.T) {
	w := newWorld(t)
	var mx []string
	dials := make(chan string, 100)
	for i := range outbound.MaxHosts + 20 {
		mx = append(mx, w.host(fmt.Sprintf("mx%d.example.org", i), testnet.Faults{}).Name)
	}
	w.ok(w.AddDomain("example.org", testnet.Domain{MX: mx}))
	w.DNS.Fail("example.org", "MX", testnet.Truncate) // too long for UDP
	w.options.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials <- address
		return w.DialContext(ctx, network, address)
	}
	r := Run(t.Context(), "example.org", w.options)
	if len(r.Hosts) != outbound.MaxHosts || len(dials) != outbound.MaxHosts || !strings.Contains(flow(t, r), "20 more hosts are not looked at") {
		t.Errorf("%d hosts, %d connections", len(r.Hosts), len(dials))
	}
}

// Every shortfall that there is has a rule and a remedy.
func TestEveryShortfallIsExplained(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	const host = "mx1.example.org"
	sessions := []security.Evidence{
		{StartTLS: security.NotOffered}, {StartTLS: security.Refused}, {StartTLS: security.Broken},
		{StartTLS: security.Established, Version: tls.VersionTLS11},
	}
	for _, spec := range []testnet.CertSpec{{}, {Names: []string{"x.example"}}, {Expired: true}, {NotYetValid: true}, {SelfSigned: true}, {UnknownCA: true}, {NoChain: true}} {
		cert, err := n.CA.Issue(host, spec)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		var e security.Evidence
		e.Host = host
		e.Observe(tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{leaf}}, n.CA.Roots(), time.Now())
		sessions = append(sessions, e)
	}
	var none security.Evidence
	none.Observe(tls.ConnectionState{Version: tls.VersionTLS13}, n.CA.Roots(), time.Now())
	sessions = append(sessions, none)
	bad := dane.Record{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}
	seen := make(map[security.Code]bool)
	for _, policy := range []*sts.Policy{nil, {Mode: sts.ModeEnforce, MX: []string{host}}, {Mode: sts.ModeTesting, MX: []string{"other.example"}}} {
		for _, set := range []*dane.RRset{nil, dane.NewRRset(host, []dane.Record{bad}), dane.NewRRset(host, []dane.Record{{}})} {
			for level := security.NoLevel; level <= security.VerifyDANE; level++ {
				req := security.Requirement{Host: host, Policy: policy, TLSA: set, Level: level, RequireTLS: true}
				for _, e := range sessions {
					for _, v := range req.Judge(&e, nil) {
						if v.Shortfall == nil {
							continue
						}
						seen[v.Shortfall.Code] = true
						if p := problemOf(v.Shortfall, Fault); p.Rule == "" || p.Remedy.IsZero() || strings.HasSuffix(p.Rule, "; ") {
							t.Errorf("%s, %s: %+v", v.Source, v.Shortfall.Code, p)
						}
					}
				}
			}
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d codes were seen: %v", len(seen), seen)
	}
}

func TestColoursAndCache(t *testing.T) {
	expires := today.Add(time.Hour)
	r := &Report{Domain: "example.org", At: today, Outcome: Outcome{Deliverable: true, Text: phrase.Quote("mail goes")},
		Cached: &Cached{ID: "1", Mode: "enforce", MX: []string{"mx1.\x1b[31mexample.org"}, ExpiresAt: &expires}}
	r.escape()
	var plain, coloured bytes.Buffer
	_ = r.Text(&plain, Style{})
	_ = r.Text(&coloured, Style{Colour: true})
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(coloured.String(), green+"ok") {
		t.Errorf("%q", coloured.String())
	}
	if !strings.Contains(plain.String(), `mode enforce, id 1, mx mx1.\x1b[31mexample.org, until 2026-06-01 13:00:00 UTC`) {
		t.Error(plain.String())
	}
}

// What a report shows of a certificate is escaped in the report alone.
func TestEscapingChangesNothingOfOthers(t *testing.T) {
	names := []string{"a\x1bb"}
	r := &Report{Hosts: []Host{{Sessions: []Session{{Certificate: &Certificate{Names: names}}}}}}
	r.escape()
	if got := r.Hosts[0].Sessions[0].Certificate.Names[0]; got != `a\x1bb` || names[0] != "a\x1bb" {
		t.Errorf("the report has %q, the certificate %q", got, names[0])
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain äöü": "plain äöü", "\x1b[31m": `\x1b[31m`, "a\r\nb": `a\x0d\x0ab`, "\xff": `\xff`, "\u202eabc": `\u202eabc`,
		"\u009b31m": `\u009b31m`, strings.Repeat("x", 2000): strings.Repeat("x", maxString) + "…",
	} {
		if got := escape(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// FuzzHostileAnswers holds that no answer of a stranger makes a check panic or
// hang, or brings something into its output that a terminal would obey.
func FuzzHostileAnswers(f *testing.F) {
	w := newWorld(f)
	w.ok(w.DNS.Add("example.org. 60 IN MX 10 mx1.example.org.", "mx1.example.org. 60 IN A 127.0.0.2"))
	site, err := w.PolicyHost("example.org")
	w.ok(err)
	f.Add([]byte("v=STSv1; id=1"), []byte("version: STSv1\nmode: enforce\nmx: mx1.example.org\nmax_age: 86400\n"), []byte("220 mx1\r\n250-mx1\r\n250 STARTTLS\r\n220 go\r\n"))
	f.Add([]byte("v=STSv1; id=\x1b[31m"), []byte("version: STSv1\r\x1b[2J"), []byte("220 \x1b]0;x\x07\r\n500 \xff\r\n"))
	f.Add([]byte("v=STSv1\x00; id=\"\\"), []byte("\xef\xbb\xbfmode: \u202e\nmx: \xc2\x9b\n:\n"), []byte("220-a\r\n554 b\r\n"))
	f.Add([]byte{}, []byte("version: STSv1\nmode: none\nmax_age: 99999999999\n"), []byte("421 busy\r\n"))
	f.Add([]byte("stsv1"), []byte("version: STSv1\nmode: testing\nmx: *.a\nmx: b..c\nmax_age: 0\nk\u0085: v\n"), bytes.Repeat([]byte("250-x\r\n"), 500))
	f.Fuzz(func(t *testing.T, txt, policy, smtp []byte) {
		w.t = t
		w.DNS.Remove("_mta-sts.example.org", "TXT")
		w.DNS.Remove("_smtp._tls.example.org", "TXT")
		for _, name := range []string{"_mta-sts.example.org", "_smtp._tls.example.org"} {
			w.ok(w.DNS.Add(name + ". 60 IN TXT " + zoneText(txt)))
		}
		w.ok(site.Set(testnet.PolicyFaults{Body: string(policy)}))
		o := w.options
		resolver, err := dnsclient.New(dnsclient.Options{Servers: []string{w.DNS.Addr()}, Timeout: time.Second, Attempts: 1})
		w.ok(err)
		defer resolver.Close()
		o.Resolver, o.Timeout = resolver, 2*time.Second
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasSuffix(address, ":25") {
				return w.DialContext(ctx, network, address)
			}
			client, server := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, server) }()
			go func() {
				_, _ = server.Write(smtp)
				server.Close()
			}()
			return client, nil
		}
		begin := time.Now()
		r := Run(t.Context(), "example.org", o)
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("it took %s", took)
		}
		var page bytes.Buffer
		w.ok(r.Text(&page, Style{}))
		data, err := json.MarshalIndent(r, "", " ")
		w.ok(err)
		for _, out := range []string{page.String(), string(data)} {
			if i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%q is in the output", out[i:min(len(out), i+20)])
			}
		}
	})
}

// zoneText writes bytes as the strings of a TXT record in a zone file.
func zoneText(b []byte) string {
	var out strings.Builder
	b = b[:min(len(b), 2000)]
	for i := 0; i == 0 || i < len(b); i += 255 {
		out.WriteString(` "`)
		for _, c := range b[i:min(len(b), i+255)] {
			fmt.Fprintf(&out, `\%03d`, c)
		}
		out.WriteString(`"`)
	}
	return out.String()
}

func TestConnectionsToHostsComeFromSourceIP(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.ok(err)
	defer l.Close()
	from := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		from <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		_, _ = io.WriteString(c, "421 busy\r\n")
		c.Close()
	}()
	w.options.Dial = nil
	w.options.SourceIPs = []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("127.9.8.7")}
	w.options.Rules = outbound.Rules{"example.org": {Route: &outbound.Route{Host: "127.0.0.1", Port: uint16(l.Addr().(*net.TCPAddr).Port)}}}
	r := Run(t.Context(), "example.org", w.options)
	if got := <-from; got != "127.9.8.7" || !strings.Contains(r.Outcome.Text.String(), "421 busy") {
		t.Errorf("from %s: %s", got, r.Outcome.Text)
	}
}

func TestHowLongAPolicyIsKept(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 days", 30 * time.Second: "30s", 90 * time.Second: "1m 30s", 10 * time.Minute: "10m 0s", time.Hour: "1h 0m", 20 * time.Hour: "20h 0m",
		24 * time.Hour: "1 day", 30 * time.Hour: "1d 6h", 14 * 24 * time.Hour: "14 days", 31557600 * time.Second: "365 days",
	} {
		if got := age(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
