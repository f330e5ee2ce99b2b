// As in the program, see docs/tls.md.
//
//go:debug x509negativeserial=1
//go:debug tlssha1=1
//go:debug tlsmaxrsasize=16384

package relay_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// newImpatientWorld is a world whose relay gives hosts a short time to begin a
// ServerHello.
func newImpatientWorld(t *testing.T, toml string) *e2e.World {
	t.Helper()
	w := e2e.NewStopped(t)
	w.Timeouts = smtpclient.Timeouts{ServerHello: 500 * time.Millisecond}
	w.Start(toml)
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
				h := w.Host("mx.a.example")
				w.SetFaults(h, testnet.Faults{Hello: fault})
				d := testnet.Domain{MX: []string{h.Name}}
				if mode != "" {
					d.Policy = e2e.PolicyFor(mode, h.Name)
				}
				w.Domain("a.example", d)
				for want := int64(2); want <= 4; want++ { // the first message needs a second connection
					w.Deliver("x@a.example")
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
				if good, failed := w.Sessions("a.example"); good != 3 || failed != 0 {
					t.Errorf("%d good, %d failed", good, failed)
				}
			})
		}
	}
}

// Where nothing is the matter, key exchange is post-quantum.
func TestOthersGetTheLargeClientHello(t *testing.T) {
	w := e2e.New(t, "")
	bad, good := w.Host("mx.bad.example"), w.Host("mx.good.example")
	w.SetFaults(bad, testnet.Faults{Hello: testnet.HelloDrop})
	w.Domain("bad.example", testnet.Domain{MX: []string{bad.Name}})
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}})
	w.Deliver("x@bad.example")
	w.Deliver("x@good.example")
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
		w := e2e.New(t, "retry = [\"1h\"]\n")
		h := w.Host("mx.a.example")
		w.SetFaults(h, testnet.Faults{Drop: "handshake"})
		d := testnet.Domain{MX: []string{h.Name}}
		if mode != "" {
			d.Policy = e2e.PolicyFor(mode, h.Name)
		}
		w.Domain("a.example", d)
		why := "the TLS handshake with mx.a.example failed: the host closed the connection"
		expect(w, h, want, why, "a.example")
		if c, n := h.Counts(), map[string]int64{"": 3, "enforce": 2}[mode]; c.Connections < n {
			t.Errorf("%q: %+v, want %d connections", mode, c, n)
		}
	}
}

// A handshake that broke is counted, also where the host takes no second connection.
func TestABrokenHandshakeIsCountedWithoutASecondConnection(t *testing.T) {
	for _, mode := range []string{"", "testing", "enforce"} {
		w := e2e.NewStopped(t)
		h := w.Host("mx.a.example")
		w.SetFaults(h, testnet.Faults{Drop: "handshake"})
		d := testnet.Domain{MX: []string{h.Name}}
		if mode != "" {
			d.Policy = e2e.PolicyFor(mode, h.Name)
		}
		w.Domain("a.example", d)
		var connections atomic.Int64
		w.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasSuffix(address, ":25") && connections.Add(1) > 1 {
				return nil, syscall.ECONNREFUSED
			}
			return w.DialContext(ctx, network, address)
		}
		w.Start("retry = [\"1h\"]\n")
		expect(w, h, held, "no second connection", "a.example")
		if good, failed := w.Sessions("a.example"); good != 0 || failed != 1 {
			t.Errorf("%q: %d sessions good, %d failed", mode, good, failed)
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
				w := e2e.New(t, "retry = [\"1h\"]\n"+tt.toml)
				h := w.Host("mx.a.example")
				w.SetFaults(h, tt.faults)
				d := testnet.Domain{MX: []string{h.Name}}
				if mode != "" {
					d.Policy = e2e.PolicyFor(mode, h.Name)
				}
				w.Domain("a.example", d)
				expect(w, h, want, tt.why, "a.example")
			}
		})
	}
}

// A session with RC4 to which nobody has objected carries no mail of a domain
// that asks for TLS.
func TestAWeakSessionIsNotUsedForWhoAsksForMore(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	h := w.Host("mx.a.example")
	w.SetFaults(h, testnet.Faults{Cert: testnet.CertSpec{RSA: true}, Suites: []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}})
	w.Domain("plain.example", testnet.Domain{MX: []string{h.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	expect(w, h, encrypted, "", "plain.example")
	if m := h.Messages()[0]; m.Suite != tls.TLS_RSA_WITH_RC4_128_SHA {
		t.Errorf("%s", tls.CipherSuiteName(m.Suite))
	}
	expect(w, h, held, "the TLS handshake with mx.a.example failed", "a.example")
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
			w := e2e.New(t, "retry = [\"1h\"]\n")
			h := w.Host("mx.a.example")
			w.SetFaults(h, f)
			w.SecureHost(h, w.TLSA(h, 3, 1, 1))
			w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
			expect(w, h, verified, "", "a.example")
			if good, failed := w.Sessions("a.example"); good != 1 || failed != 0 {
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
			h := o.Host("mx.a.example")
			f := tt.faults
			f.Recipients = map[string]string{"later@a.example": "450 4.2.0 later"}
			o.SetFaults(h, f)
			o.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
			m, gone := o.Attempted(o.Send("anna@sender.example", "later@a.example"))
			if gone || !strings.HasPrefix(m.States[0].TLS, tt.says) {
				t.Errorf("queue: gone %t, %+v", gone, m.States)
			}
			if c := h.Counts(); c.MailsInClear != 1 {
				t.Errorf("%+v", c)
			}
			if line := `stsrelay_starttls_total{result="` + tt.metric + `"} 1`; !strings.Contains(o.metrics(), line) {
				t.Errorf("the metrics have no %s", line)
			}
			r := o.ReportOn(tlsrpt.DayOf(time.Now()), "a.example")
			if d := r.Policies[0].Details; len(d) != 1 || !strings.HasPrefix(cmp.Or(d[0].FailureReasonCode, "-"), tt.code) {
				t.Errorf("report: %+v", d)
			}
		})
	}
}

func TestTheLogSaysHowASessionWasEncrypted(t *testing.T) {
	w, log := e2e.NewLogged(t, "")
	h, broken := w.Host("mx.a.example"), w.Host("mx.b.example")
	w.SetFaults(broken, testnet.Faults{TLS11: true})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.Domain("b.example", testnet.Domain{MX: []string{broken.Name}})
	for domain, want := range map[string]string{
		"a.example": "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768, verified certificate",
		"b.example": "none: the TLS handshake with mx.b.example failed: the host sent the alert protocol version",
	} {
		id := w.Send("anna@sender.example", "kurt@"+domain)
		w.WaitFor("the end", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
		found := false
		for text := range strings.Lines(log.String()) {
			var l struct {
				Msg, TLS                               string
				ID                                     string `json:"queue_id"`
				Protection, Cipher, Group, Certificate string
			}
			if json.Unmarshal([]byte(text), &l) == nil && l.ID == id && l.Msg == "attempt" {
				found = true
				if !strings.HasPrefix(l.TLS, want) {
					t.Errorf("%q, want %q", l.TLS, want)
				}
				if domain == "b.example" {
					if l.Protection != "none" || l.Cipher+l.Group+l.Certificate != "" {
						t.Errorf("%+v", l)
					}
				} else if l.Protection != "verified" || l.Cipher != "TLS_AES_128_GCM_SHA256" || l.Group != "X25519MLKEM768" || l.Certificate != fingerprint(w, h) {
					t.Errorf("%+v", l)
				}
				documented(t, []byte(text))
			}
		}
		if !found {
			t.Errorf("no attempt of %s", domain)
		}
	}
}

// documented looks for the fields of a line in docs/logging.md.
func documented(t *testing.T, line []byte) {
	t.Helper()
	page, err := os.ReadFile("../docs/logging.md")
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil || len(fields) < 20 {
		t.Fatalf("%v, %d fields", err, len(fields))
	}
	for name := range fields {
		if !bytes.Contains(page, []byte("`"+name+"`")) {
			t.Errorf("docs/logging.md does not have %s", name)
		}
	}
}

// Policy hosts and receivers of reports get the small ClientHello too.
func TestPolicyHostsAndReceiversGetASmallClientHello(t *testing.T) {
	w := e2e.NewWithKeys(t)
	h, mx := w.ReportHost("reports.example"), w.Host("mx.a.example")
	h.SetHello(testnet.HelloSegment)
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/", Policy: e2e.PolicyFor("enforce", mx.Name)})
	w.SetPolicyFaults("a.example", testnet.PolicyFaults{Hello: testnet.HelloDrop})
	w.SetFaults(mx, testnet.Faults{NoStartTLS: true})
	expect(w, mx, held, "MTA-STS", "a.example")
	w.Clock.Tomorrow()
	if r := w.Posted(h, 1); len(r.Policies) != 1 || *r.Policies[0].Policy.Type != "sts" {
		t.Errorf("%+v", r.Policies)
	}
}

// A host that answers the EHLO behind a good handshake with a refusal has no
// trouble with TLS: its mail waits, is not sent in clear, and no failure of TLS
// is reported (RFC 8460, 4.3).
func TestARefusedEHLOBehindTheHandshakeIsNoFailureOfTLS(t *testing.T) {
	for _, reply := range []string{"421 4.3.2 busy", "451 4.3.2 busy", "554 5.7.1 go away"} {
		t.Run(reply[:3], func(t *testing.T) {
			w := e2e.New(t, "retry = [\"1h\"]\n")
			h := w.Host("mx.busy.example")
			w.SetFaults(h, testnet.Faults{Replies: map[string]string{"ehlo-tls": reply, "helo": reply}})
			w.Domain("busy.example", testnet.Domain{MX: []string{h.Name}})
			m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@busy.example"))
			if n := h.Counts().MailsInClear; n > 0 || gone {
				t.Fatalf("the host offers TLS, and %d messages were sent in clear (gone: %t)", n, gone)
			}
			if s := m.States[0]; s.ReasonCode != "busy" && s.ReasonCode != "greeting" || !strings.Contains(s.LastReply, reply[:3]) {
				t.Errorf("it waits for %q: %q, %q", s.ReasonCode, s.LastReply, s.LastError)
			}
			err := w.Relay.Operator().PreviewReports(t.Context(), tlsrpt.DayOf(time.Now()), "", func(r *tlsrpt.Report) bool {
				t.Errorf("it is reported: %+v", r)
				return true
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
