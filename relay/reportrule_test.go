package relay_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ourdkim "github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// RFC 8460, 3 lifts the recipients' policies for a report, not the operator's
// rules; and a stranger, who decides where a report goes, gets no password.
func TestTheOperatorsRulesHoldForReports(t *testing.T) {
	selfSigned := testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}
	clearOnly := testnet.Faults{NoStartTLS: true}
	login := func(f testnet.Faults) testnet.Faults { f.Login, f.AuthMechanism = "anna:secret", "PLAIN"; return f }
	const route = "route = \"box.hop.example:587\"\nuser = \"anna\"\npassword_file = \"password\"\n"
	for _, tt := range []struct {
		name, rule string
		faults     testnet.Faults
		why        string // what holds the report; "": it goes
		user       string // who is logged in
	}{
		{"no rule, in clear", "", clearOnly, "", ""},
		{"no rule, self-signed", "", selfSigned, "", ""},
		{"verify, self-signed", `tls = "verify"`, selfSigned, "self-signed", ""},
		{"verify, good", `tls = "verify"`, testnet.Faults{}, "", ""},
		{"secure, another name", `tls = "secure"`, testnet.Faults{Cert: testnet.CertSpec{Names: []string{"mx.attacker.example"}}}, "not for reports.example", ""},
		{"encrypt, in clear", `tls = "encrypt"`, clearOnly, "does not offer STARTTLS", ""},
		{"dane, no records", `tls = "dane"`, testnet.Faults{}, "no usable TLSA records", ""},
		{"opportunistic, in clear", `tls = "opportunistic"`, clearOnly, "", ""},
		{"route, good", route, login(testnet.Faults{}), "", "anna"},
		{"route, self-signed", route, login(selfSigned), "self-signed", ""},
		{"route, in clear", route, login(clearOnly), "does not offer STARTTLS", ""},
		{"route, another name", route, login(testnet.Faults{Cert: testnet.CertSpec{Names: []string{"mx.attacker.example"}}}), "is for mx.attacker.example", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newClockWorld(t)
			if err := os.WriteFile(filepath.Join(w.dir, "password"), []byte("secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			toml := w.keys(ourdkim.Ed25519)
			if tt.rule != "" {
				toml += "[[domain]]\nname = \"reports.example\"\n" + tt.rule + "\n"
			}
			mx, box := w.host("mx.a.example"), w.host("box.hop.example")
			box.Alias("587")
			w.set(box, tt.faults)
			w.domain("reports.example", testnet.Domain{MX: []string{box.Name}, Policy: policyFor("enforce", "another.example")})
			w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
			w.start(toml)
			w.deliver("b@a.example")
			w.clock.tomorrow()
			if tt.why == "" {
				if m := w.wait(box, 1)[0]; m.User != tt.user {
					t.Errorf("logged in as %q, want %q", m.User, tt.user)
				}
				return
			}
			var last string
			w.waitFor("the report to be held", func(q *queue.Queue) bool {
				m, ok := waiting(t, q)
				if ok {
					last = m.States[0].LastError
				}
				return ok
			})
			if !strings.Contains(last, tt.why) {
				t.Errorf("held by %q, want %q", last, tt.why)
			}
			if c := box.Counts(); c.Mails != 0 || c.Auths != 0 {
				t.Errorf("the host saw %+v", c)
			}
		})
	}
}

// waiting is a message that has had an attempt and waits for the next one.
func waiting(t *testing.T, q *queue.Queue) (found queue.Message, ok bool) {
	t.Helper()
	err := q.List(t.Context(), queue.Filter{}, func(m queue.Message) bool {
		if m.Attempts > 0 && m.State == queue.Queued {
			found, ok = m, true
		}
		return !ok
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, ok
}

// plaintext = "refuse" is the operator's own, and holds a report.
func TestPlaintextRefusedHoldsReports(t *testing.T) {
	w := newClockWorld(t)
	mx, box := w.host("mx.a.example"), w.host("mx.reports.example")
	w.set(box, testnet.Faults{NoStartTLS: true})
	w.domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
	w.start("plaintext = \"refuse\"\n" + w.keys(ourdkim.Ed25519))
	w.deliver("b@a.example")
	w.clock.tomorrow()
	w.waitFor("the report to be held", func(q *queue.Queue) bool {
		m, ok := waiting(t, q)
		return ok && strings.Contains(m.States[0].LastError, "sends nothing in clear")
	})
	if n := box.Counts().Mails; n != 0 {
		t.Errorf("%d MAIL in clear", n)
	}
}
