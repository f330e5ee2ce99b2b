// As in the program, see docs/tls.md.
//
//go:debug x509negativeserial=1
//go:debug tlssha1=1
//go:debug tlsmaxrsasize=16384

package relay_test

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// newImpatientWorld is a world whose relay gives hosts a short time to begin a
// ServerHello.
func newImpatientWorld(t *testing.T, toml string) *world {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Net: n, t: t, dir: t.TempDir(), timeouts: smtpclient.Timeouts{ServerHello: 500 * time.Millisecond}}
	w.start(toml)
	return w
}

// A host that cannot take a ClientHello of two segments gets its mail over TLS
// all the same, whoever asks for it, and from the second session on at once.
func TestALargeClientHelloIsMadeSmaller(t *testing.T) {
	for name, fault := range map[string]testnet.HelloFault{"drops": testnet.HelloDrop, "stalls": testnet.HelloStall, "reads one segment": testnet.HelloSegment} {
		for _, mode := range []string{"", "enforce"} {
			t.Run(name+" "+mode, func(t *testing.T) {
				t.Parallel()
				w := newImpatientWorld(t, "retry = [\"1h\"]\n")
				h := w.host("mx.a.example")
				w.set(h, testnet.Faults{Hello: fault})
				d := testnet.Domain{MX: []string{h.Name}}
				if mode != "" {
					d.Policy = policyFor(mode, h.Name)
				}
				w.domain("a.example", d)
				for want := int64(2); want <= 4; want++ { // the first message needs a second connection
					w.deliver("x@a.example")
					h.Cut()
					if c := h.Counts(); c.Connections != want || c.MailsInClear > 0 {
						t.Errorf("%+v, want %d connections", c, want)
					}
				}
				for _, m := range h.Messages() {
					if m.Group != tls.X25519 || m.SNI != h.Name {
						t.Errorf("%s, SNI %s", m.Group, m.SNI)
					}
				}
				if good, failed := w.sessions("a.example"); good != 3 || failed != 0 {
					t.Errorf("%d good, %d failed", good, failed)
				}
			})
		}
	}
}

// Where nothing is the matter, key exchange is post-quantum.
func TestOthersGetTheLargeClientHello(t *testing.T) {
	w := newWorld(t, "")
	bad, good := w.host("mx.bad.example"), w.host("mx.good.example")
	w.set(bad, testnet.Faults{Hello: testnet.HelloDrop})
	w.domain("bad.example", testnet.Domain{MX: []string{bad.Name}})
	w.domain("good.example", testnet.Domain{MX: []string{good.Name}})
	w.deliver("x@bad.example")
	w.deliver("x@good.example")
	if m := good.Messages()[0]; m.Group != tls.X25519MLKEM768 || m.TLSVersion != tls.VersionTLS13 {
		t.Errorf("%s, %#x", m.Group, m.TLSVersion)
	}
	if c := good.Counts(); c.Connections != 1 {
		t.Errorf("%+v", c)
	}
}

// A handshake that breaks whatever the size is tried twice, held where TLS is
// asked for, and in clear where it is not.
func TestASmallClientHelloDoesNotHelpEverybody(t *testing.T) {
	for mode, want := range map[string]outcome{"": clear, "enforce": held} {
		w := newWorld(t, "retry = [\"1h\"]\n")
		h := w.host("mx.a.example")
		w.set(h, testnet.Faults{Drop: "handshake"})
		d := testnet.Domain{MX: []string{h.Name}}
		if mode != "" {
			d.Policy = policyFor(mode, h.Name)
		}
		w.domain("a.example", d)
		why := "the TLS handshake with mx.a.example failed: the host closed the connection"
		w.expect(h, want, why, "a.example")
		if c, n := h.Counts(), map[string]int64{"": 3, "enforce": 2}[mode]; c.Connections < n {
			t.Errorf("%q: %+v, want %d connections", mode, c, n)
		}
	}
}

// Old suites and versions: what is opportunistic takes what can be had, what is
// binding what its RFC allows.
func TestOldHosts(t *testing.T) {
	rsa := testnet.CertSpec{RSA: true}
	suites := func(ids ...uint16) testnet.Faults { return testnet.Faults{Cert: rsa, Suites: ids} }
	for _, tt := range []struct {
		name             string
		faults           testnet.Faults
		toml             string
		without, enforce outcome
		why              string
	}{
		{"RSA key exchange, GCM", suites(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), "", verified, verified, ""},
		{"RSA key exchange, CBC", suites(tls.TLS_RSA_WITH_AES_256_CBC_SHA), "", verified, verified, ""},
		{"RSA key exchange, CBC with SHA-256", suites(tls.TLS_RSA_WITH_AES_128_CBC_SHA256), "", verified, verified, ""},
		{"RSA key exchange, 3DES", suites(tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA), "", verified, verified, ""},
		{"ECDHE, 3DES", suites(tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA), "", verified, verified, ""},
		{"RC4", suites(tls.TLS_RSA_WITH_RC4_128_SHA), "", encrypted, held, "alert handshake failure"},
		{"RSA key exchange, not verified", testnet.Faults{Cert: testnet.CertSpec{RSA: true, SelfSigned: true}, Suites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, "", encrypted, held, "self-signed"},
		{"TLS 1.1", testnet.Faults{TLS11: true}, "", clear, held, "alert protocol version"},
		{"TLS 1.1, legacy_tls", testnet.Faults{TLS11: true}, "legacy_tls = true\n", encrypted, held, "speaks only TLS 1.1"},
		{"TLS 1.1 with RSA key exchange, legacy_tls", testnet.Faults{TLS11: true, Cert: rsa, Suites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, "legacy_tls = true\n", encrypted, held, "speaks only TLS 1.1"},
		{"a negative serial number", testnet.Faults{Cert: testnet.CertSpec{NegativeSerial: true}}, "", verified, verified, ""},
		{"a negative serial number, self-signed", testnet.Faults{Cert: testnet.CertSpec{NegativeSerial: true, SelfSigned: true}}, "", encrypted, held, "self-signed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for mode, want := range map[string]outcome{"": tt.without, "enforce": tt.enforce} {
				w := newWorld(t, "retry = [\"1h\"]\n"+tt.toml)
				h := w.host("mx.a.example")
				w.set(h, tt.faults)
				d := testnet.Domain{MX: []string{h.Name}}
				if mode != "" {
					d.Policy = policyFor(mode, h.Name)
				}
				w.domain("a.example", d)
				w.expect(h, want, tt.why, "a.example")
			}
		})
	}
}

// A session with RC4 to which nobody has objected carries no mail of a domain
// that asks for TLS.
func TestAWeakSessionIsNotUsedForWhoAsksForMore(t *testing.T) {
	w := newWorld(t, "retry = [\"1h\"]\n")
	h := w.host("mx.a.example")
	w.set(h, testnet.Faults{Cert: testnet.CertSpec{RSA: true}, Suites: []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}})
	w.domain("plain.example", testnet.Domain{MX: []string{h.Name}})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	w.expect(h, encrypted, "", "plain.example")
	if m := h.Messages()[0]; m.Suite != tls.TLS_RSA_WITH_RC4_128_SHA {
		t.Errorf("%s", tls.CipherSuiteName(m.Suite))
	}
	w.expect(h, held, "the TLS handshake with mx.a.example failed", "a.example")
}

// With usage 3 and the key's digest nothing of a certificate but the key counts
// (RFC 7671, 5.1).
func TestDANEAsksForTheKeyAlone(t *testing.T) {
	for name, f := range map[string]testnet.Faults{
		"a negative serial number": {Cert: testnet.CertSpec{NegativeSerial: true}},
		"expired":                  {Cert: testnet.CertSpec{Expired: true, SelfSigned: true}},
		"not yet valid":            {Cert: testnet.CertSpec{NotYetValid: true}},
		"another name":             {Cert: testnet.CertSpec{Names: []string{"other.example"}}},
		"no name at all":           {Cert: testnet.CertSpec{CNOnly: true, UnknownCA: true}},
		"RSA key exchange":         {Cert: testnet.CertSpec{RSA: true, NegativeSerial: true}, Suites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "retry = [\"1h\"]\n")
			h := w.host("mx.a.example")
			w.set(h, f)
			w.secureHost(h, w.tlsa(h, 3, 1, 1))
			w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
			w.expect(h, verified, "", "a.example")
			if good, failed := w.sessions("a.example"); good != 1 || failed != 0 {
				t.Errorf("%d good, %d failed", good, failed)
			}
		})
	}
}

// That TLS was offered and broke is said in the log, in the queue, by the metrics
// and in the report, where mail goes in clear.
func TestBrokenTLSIsSaidEverywhere(t *testing.T) {
	for _, tt := range []struct {
		name         string
		faults       testnet.Faults
		says, metric string
		code         string
	}{
		{"broken", testnet.Faults{Drop: "handshake"}, "none: the TLS handshake with mx.a.example failed: the host closed the connection", "broken", "handshake-failed: the host closed the connection"},
		{"dropped at STARTTLS", testnet.Faults{Drop: "starttls"}, "none: the TLS handshake with mx.a.example failed: the host closed the connection", "broken", "handshake-failed: the host closed the connection"},
		{"refused", testnet.Faults{StartTLSReply: "454 4.7.0 no key"}, "none: mx.a.example refused STARTTLS: 454 4.7.0 no key", "refused", "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newObserved(t, "retry = [\"1h\"]\n")
			h := o.host("mx.a.example")
			f := tt.faults
			f.Recipients = map[string]string{"later@a.example": "450 4.2.0 later"}
			o.set(h, f)
			o.domain("a.example", testnet.Domain{MX: []string{h.Name}})
			m, gone := o.attempted(o.send("anna@sender.example", "later@a.example"))
			if gone || !strings.HasPrefix(m.States[0].TLS, tt.says) {
				t.Errorf("queue: gone %t, %+v", gone, m.States)
			}
			if c := h.Counts(); c.MailsInClear != 1 {
				t.Errorf("%+v", c)
			}
			if line := `stsrelay_starttls_total{result="` + tt.metric + `"} 1`; !strings.Contains(o.metrics(), line) {
				t.Errorf("the metrics have no %s", line)
			}
			r := o.reportOn(tlsrpt.DayOf(time.Now()), "a.example")
			if d := r.Policies[0].Details; len(d) != 1 || !strings.HasPrefix(cmp.Or(d[0].FailureReasonCode, "-"), tt.code) {
				t.Errorf("report: %+v", d)
			}
		})
	}
}

func TestTheLogSaysHowASessionWasEncrypted(t *testing.T) {
	w, log := newLoggedWorld(t, "")
	h, broken := w.host("mx.a.example"), w.host("mx.b.example")
	w.set(broken, testnet.Faults{TLS11: true})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.domain("b.example", testnet.Domain{MX: []string{broken.Name}})
	for domain, want := range map[string]string{
		"a.example": "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768, verified certificate",
		"b.example": "none: the TLS handshake with mx.b.example failed: the host sent the alert protocol version",
	} {
		id := w.send("anna@sender.example", "kurt@"+domain)
		w.waitFor("the end", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
		found := false
		for text := range strings.Lines(log.String()) {
			var l struct {
				Msg, TLS string
				ID       string `json:"queue_id"`
			}
			if json.Unmarshal([]byte(text), &l) == nil && l.ID == id && l.Msg == "attempt" {
				found = true
				if !strings.HasPrefix(l.TLS, want) {
					t.Errorf("%q, want %q", l.TLS, want)
				}
			}
		}
		if !found {
			t.Errorf("no attempt of %s", domain)
		}
	}
}

// Policy hosts and receivers of reports get the small ClientHello too.
func TestPolicyHostsAndReceiversGetASmallClientHello(t *testing.T) {
	w := newReportWorld(t)
	h, mx := w.receiver("reports.example"), w.host("mx.a.example")
	h.SetHello(testnet.HelloSegment)
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/", Policy: policyFor("enforce", mx.Name)})
	w.policyFaults("a.example", testnet.PolicyFaults{Hello: testnet.HelloDrop})
	w.set(mx, testnet.Faults{NoStartTLS: true})
	w.expect(mx, held, "MTA-STS", "a.example")
	w.clock.tomorrow()
	if r := w.posted(h, 1); len(r.Policies) != 1 || *r.Policies[0].Policy.Type != "sts" {
		t.Errorf("%+v", r.Policies)
	}
}
