package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What stops all mail is told at once, whenever the last mail was.
func TestWhatStopsAllMailIsToldAtOnce(t *testing.T) {
	d := newHarness(t)
	d.after(0, disk)
	outage := say("outage", "outage", "12m 0s", 412, 40, "dns", words{"look at the resolver", "sehen Sie nach dem Resolver"})
	outage.urgent = true
	d.says(d.after(time.Minute, disk, outage), "nothing was delivered for 12m 0s; 412 attempts to 40 domains failed, most: dns",
		"New:\n\n* nothing was delivered for 12m 0s; 412 attempts to 40 domains failed, most: dns\n  What helps: look at the resolver\n")
	if d.after(time.Minute, disk) != nil || d.after(time.Minute, disk, outage) != nil {
		t.Error("told again when it came back within the hour")
	}
}

func TestTheOperatorIsToldInTheirLanguage(t *testing.T) {
	d := newHarness(t)
	d.language = "de"
	d.says(d.after(0, say("held", "held", messages(3))), "3 Nachrichten angehalten", "Neu:\n\n* 3 Nachrichten angehalten\n  Was hilft: stsrelay queue list --state held, dann queue release oder remove\n")
	d.says(d.after(time.Hour), "alles ist wieder gut", "Vorbei seit der letzten Mail:\n\n* 3 Nachrichten angehalten\n")
}

// A small site has one message that waits.
func TestOneMessageIsNotSeveral(t *testing.T) {
	for _, a := range []Alert{
		say("held", "held", messages(1)),
		say("domain a.example dns", "domain", "a.example", messages(1), "2026-11-25 12:00:00", "dns", "no answer", words{}),
	} {
		if !strings.Contains(a.What, "1 message") || strings.Contains(a.What, "1 messages") || !strings.Contains(a.german.what, "1 Nachricht") || strings.Contains(a.german.what, "1 Nachrichten") {
			t.Errorf("%q, %q", a.What, a.german.what)
		}
	}
}

// Both languages have every text, with the same arguments.
func TestEveryTextIsThereInBothLanguages(t *testing.T) {
	if len(english) != len(german) {
		t.Errorf("%d texts, and %d in German", len(english), len(german))
	}
	for name, en := range english {
		de := german[name]
		for i := range 10 {
			arg := fmt.Sprintf("%%[%d]", i)
			if strings.Contains(en.what, arg) != strings.Contains(de.what, arg) || strings.Contains(en.helps, arg) != strings.Contains(de.helps, arg) {
				t.Errorf("%s: %q and %q", name, en, de)
			}
		}
		if en.what == "" || de.what == "" {
			t.Errorf("%s: %q and %q", name, en, de)
		}
	}
}

func TestTheWebhookIsToldTheSame(t *testing.T) {
	d := newHarness(t)
	d.to = "" // nobody gets mail
	var bodies []string
	d.hook = func(body []byte) error { bodies = append(bodies, string(body)); return nil }
	take := func() string {
		t.Helper()
		select {
		case n := <-d.Monitor.hook.notes:
			if err := n.post(t.Context(), n.body); err != nil {
				t.Fatal(err)
			}
			return bodies[len(bodies)-1]
		default:
			return ""
		}
	}
	d.after(0, disk, cert)
	want := `{"hostname":"relay.example.com","at":"2026-11-25T12:00:00Z","text":"relay.example.com: 2 new troubles","new":[{"key":"disk","what":"the disk runs full","helps":"free some"},{"key":"cert","what":"the certificate ends","helps":""}],"still":[],"over":[]}`
	if got := take(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	d.restart()
	d.after(time.Minute, disk, cert)
	if got := take(); got != "" {
		t.Errorf("told again: %s", got)
	}
	d.after(time.Hour, cert)
	d.after(24*time.Hour, cert)
	var p struct{ Still, Over []any }
	if err := json.Unmarshal([]byte(take()), &p); err != nil || len(p.Still) != 1 || len(p.Over) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Where the mail cannot be queued, since the disk is full for one, the webhook is told once.
func TestTheWebhookIsToldWhenNoMailCanBeQueued(t *testing.T) {
	d := newHarness(t)
	d.full, d.hook = true, func([]byte) error { return nil }
	d.after(0, disk)
	d.after(time.Minute, disk)
	d.after(time.Minute, disk, cert)
	d.full = false
	d.says(d.after(time.Minute, disk, cert), "2 new troubles", "New:\n\n* the disk runs full\n")
	if n := len(d.Monitor.hook.notes); n != 2 {
		t.Errorf("the webhook was told %d times", n)
	}
}

// A webhook that fails is tried again with longer and longer pauses, and given up at last.
func TestAWebhookThatFailsIsTriedAgain(t *testing.T) {
	d := newHarness(t)
	synctest.Test(t, func(t *testing.T) {
		h := hook{after: time.After, log: d.o.Logger, notes: make(chan note, maxNotes)}
		start, tries := time.Now(), []string{}
		h.send(t.Context(), note{post: func(context.Context, []byte) error {
			tries = append(tries, time.Since(start).String())
			return errors.New("no")
		}})
		if got := strings.Join(tries, " "); got != "0s 10s 30s 1m10s 2m30s 5m10s" {
			t.Errorf("tried at %s", got)
		}
	})
}
