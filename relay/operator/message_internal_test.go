package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

func TestTheLogNamesWhatIsSetOfASelection(t *testing.T) {
	for _, row := range []struct {
		name string
		sel  Selection
		want string
	}{
		{"nothing", Selection{}, "level=INFO msg=x\n"},
		{"all", Selection{All: true}, "level=INFO msg=x all=true\n"},
		{"IDs and a reason", Selection{IDs: []string{"01A", "01B"}, Reason: "no such company"}, `level=INFO msg=x ids="[01A 01B]" reason="no such company"` + "\n"},
		{"a filter", Selection{Domain: "a.example", From: "<>", To: "x@a.example", State: "held", OlderThan: "2h"},
			`level=INFO msg=x domain=a.example from=<> to=x@a.example state=held older_than=2h` + "\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
			log.LogAttrs(context.Background(), slog.LevelInfo, "x", row.sel.attrs()...)
			if out.String() != row.want {
				t.Errorf("got %swant %s", out.String(), row.want)
			}
		})
	}
}

func TestWhyAMessageWaits(t *testing.T) {
	queued := func(why, text string) queue.RecipientState {
		return queue.RecipientState{State: queue.Queued, ReasonCode: why, LastError: text}
	}
	delivered := queue.RecipientState{State: queue.Delivered}
	for _, row := range []struct {
		name         string
		state        queue.State
		heldFor      string
		states       []queue.RecipientState
		rests        queue.Reason // of the second recipient's domain
		line, remedy string
	}{
		{name: "new", states: []queue.RecipientState{queued("", ""), queued("", "")}, line: "new", remedy: "its turn"},
		{name: "put off", states: []queue.RecipientState{delivered, queued("tls-name", "4.7.5 another name")},
			line: "tls-name  4.7.5 another name", remedy: "stsrelay check two.example"},
		{name: "its domain rests", states: []queue.RecipientState{queued("", ""), queued("", "")}, rests: queue.Reason{Code: "connect", Text: "4.4.1 refused"},
			line: "connect  waits with its domain since 2026-05-04 12:00:00Z: 4.4.1 refused", remedy: "stsrelay check two.example"},
		{name: "held", state: queue.Held, heldFor: "odd", states: []queue.RecipientState{queued("dns", "no answer"), delivered},
			line: "held  odd", remedy: "stsrelay queue release 0000"},
		{name: "a code of another version", states: []queue.RecipientState{queued("moon", "full"), delivered}, line: "moon  full", remedy: "stsrelay check one.example"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := queue.Message{State: row.state, HeldFor: row.heldFor, States: row.states, Waits: []queue.Wait{{}, {Backoff: row.rests, BackoffSince: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}}}
			m.Recipients = []queue.Recipient{{Address: "a@one.example", Domain: "one.example"}, {Address: "b@two.example", Domain: "two.example"}}
			shown := newMessage(&m, nil)
			w := shown.Reason
			if w.String() != row.line || w.Says == "" || w.Whose() == "" || !strings.Contains(w.Remedy, row.remedy) {
				t.Errorf("%+v", w)
			}
			if to := shown.Recipients[1]; row.rests != (queue.Reason{}) && (to.LastError != "" || to.DomainError != row.rests.Text || to.DomainSince == nil || to.Reason != row.rests.Code) {
				t.Errorf("the error of its domain is not told apart from its own: %+v", to)
			}
		})
	}
}

// The name of a domain, such as check, can be a word of the remedy.
func TestARemedyWithTheNameOfADomainInIt(t *testing.T) {
	for _, row := range []struct {
		code           failure.Reason
		ours           bool
		remedy, german string // with %s for the domain
	}{
		{failure.TLSName, false, "Tell the domain's postmaster; stsrelay check %s says what to mend.",
			"Sagen Sie es dem Postmaster der Domain; stsrelay check %s sagt, was zu beheben ist."},
		{failure.TLSName, true, "Look for a firewall that puts its own certificate in the place of the hosts'.",
			"Prüfen Sie, ob eine Firewall ihr eigenes Zertifikat an die Stelle derer der Hosts setzt."},
		{failure.Handshake, true, "Look for a firewall with SMTP inspection on the way out, which breaks TLS.",
			"Suchen Sie auf dem Weg hinaus nach einer Firewall, die SMTP mitliest und TLS zerbricht."},
		{failure.Rule, false, "Loosen the rule in [[domain]] tls, or delivery.plaintext; or tell the domain's postmaster.",
			"Lockern Sie die Regel in [[domain]] tls oder delivery.plaintext; oder sagen Sie es dem Postmaster der Domain."},
	} {
		for _, domain := range []string{"check", "domain", "tls", "delivery.plaintext", "firewall", "two.example"} {
			var ours []string
			if row.ours {
				ours = append(ours, row.code.Code())
			}
			told := func(text, domain string) string { return strings.ReplaceAll(text, "%s", domain) }
			here := DomainSummary{Domain: domain, Reason: newReason(queue.Reason{Code: row.code.Code(), Text: "why"}, domain, "", ours)}
			var there DomainSummary // as the command line has it
			if out, err := json.Marshal(here); err != nil || json.Unmarshal(out, &there) != nil {
				t.Fatal(err)
			}
			for _, d := range []DomainSummary{here, there} {
				if got, want := d.Reason.Remedy, told(row.remedy, domain); got != want {
					t.Errorf("%s:\n%s, want\n%s", domain, got, want)
				}
				other := d
				other.Domain = "other.example"
				if got, want := Reasons([]DomainSummary{d, other})[0].Remedy, told(row.remedy, "DOMAIN"); got != want {
					t.Errorf("%s, and another domain:\n%s, want\n%s", domain, got, want)
				}
				remedy := d.Waiting().Problems[0].Remedy
				if got, want := remedy.String(), told(row.remedy, domain); got != want {
					t.Errorf("a check of %s:\n%s, want\n%s", domain, got, want)
				}
				got := remedy.In(func(english string) string {
					if english == told(row.remedy, "DOMAIN") {
						return told(row.german, "DOMAIN")
					}
					return english
				})
				if want := told(row.german, domain); got != want {
					t.Errorf("a check of %s, in German:\n%s, want\n%s", domain, got, want)
				}
			}
		}
	}
}

func TestAMessageIsShownWithItsMessageID(t *testing.T) {
	m := newMessage(&queue.Message{Envelope: queue.Envelope{MessageID: "<1@example.com>"}}, nil)
	if out, err := json.Marshal(m); err != nil || !strings.Contains(string(out), `"message_id":"\u003c1@example.com\u003e"`) {
		t.Errorf("%s, %v", out, err)
	}
}
