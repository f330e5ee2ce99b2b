//go:build browser

package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// mostClicks is in how many clicks an operator's task must be done.
const mostClicks = 4

// delivered adds a message that was delivered at a time to a history.
func delivered(l *history.Log, at time.Time, from, to, host string, proof history.Proof) {
	id := ulid.MustNew(ulid.Timestamp(at), ulid.DefaultEntropy()).String()
	domain := to[strings.LastIndexByte(to, '@')+1:]
	l.Add(history.Record{At: at, Kind: history.Accepted, QueueID: id, MessageID: "<" + id + "@sender.example>", From: from, To: []string{to}, Size: 4711, Client: "ex01.sender.example"})
	l.Add(history.Record{At: at.Add(time.Second), Kind: history.Attempt, QueueID: id, MessageID: "<" + id + "@sender.example>", From: from, To: []string{to}, Domain: domain,
		Verdict: "delivered", Host: host, IP: "192.0.2.1", Reply: "250 2.0.0 Ok: queued as 4711", Number: 1, TLS: &history.TLS{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", Proof: proof}})
}

// The three tasks that operators have most often, each from the overview on.
func TestAnOperatorsTasksTakeFewClicks(t *testing.T) {
	w := e2e.NewStopped(t)
	now := time.Now().UTC()
	yesterday, month := now.AddDate(0, 0, -1), time.Date(now.Year(), now.Month()-1, 1, 9, 0, 0, 0, time.UTC)
	past, err := history.Open(history.Options{Dir: filepath.Join(w.Dir, "history"), Settings: history.Settings{Keep: 2400 * time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		delivered(past, month.AddDate(0, 0, i), "invoices@sender.example", fmt.Sprintf("books@customer%d.example", i), "mx.customer.example", history.ProofDANE)
		delivered(past, month.AddDate(0, 0, i), "anna@sender.example", "kurt@friend.example", "mx.friend.example", history.ProofEncrypted)
	}
	delivered(past, yesterday, "berta@sender.example", "carl@partner.example", "mx.partner.example", history.ProofSTS)
	delivered(past, yesterday, "berta@sender.example", "dora@partner.example", "mx.partner.example", history.ProofSTS)
	if err := past.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Start("retry = [\"30m\"]\n[history]\nkeep = \"2400h\"\n[admin]\nhttp = \"127.0.0.1:0\"\nact_token_file = \"" + file + "\"\n")
	newInternet(t, w, 11, 80)
	w.Relay.Queue().SetPaused(false)
	b := start(t, "http://"+w.Relay.HTTPAddr().String(), "en")
	b.open("/")
	b.login(token)
	task := func(name string, do func()) {
		t.Run(name, func(t *testing.T) {
			b.t = t
			b.open("/")
			begin := time.Now()
			b.clicks = 0
			do()
			t.Logf("%d clicks, %s", b.clicks, time.Since(begin).Round(100*time.Millisecond))
			if b.clicks > mostClicks {
				t.Errorf("it takes %d clicks", b.clicks)
			}
		})
	}
	date := func(t time.Time) string { return t.Format("01022006") } // as it is typed in English
	task("where is the mail of B to C from yesterday, over what TLS", func() {
		b.click(`nav a[href="/history"]`)
		b.fill("input[name=from]", "berta@sender.example")
		b.fill("input[name=to]", "carl@partner.example")
		b.fill("input[name=since]", date(yesterday))
		b.fill("input[name=until]", date(yesterday))
		b.click("form[role=search] button")
		b.wants("delivered mx.partner.example [192.0.2.1], TLS 1.3, MTA-STS", "250 2.0.0 Ok: queued as 4711")
		b.lacks("dora@partner.example")
		b.click(".records a.id")
		b.wants("accepted", "Evidence of how it travelled")
	})
	task("everything for D waits: why, since when, what helps, retry", func() {
		b.click(`nav a[href="/queue"]`)
		b.fill("input[name=domain]", "busy5.example")
		b.click("form[role=search] button")
		n := len(messages(b.t, w, operator.Selection{Domain: "busy5.example"}))
		b.wants("What helps", "in the queue for", "too busy, come back later")
		b.tick("input[name=scope][value=filter]")
		b.click("button[value=retry]")
		b.wants(fmt.Sprintf("%d messages are due now.", n))
	})
	task("prove how the invoices of a month travelled", func() {
		b.click(`nav a[href="/history"]`)
		b.fill("input[name=from]", "invoices@sender.example")
		b.fill("input[name=since]", date(month))
		b.fill("input[name=until]", date(month.AddDate(0, 1, -1)))
		b.click("form[role=search] button")
		document := b.save(`a[href^="/history/evidence"]`)
		for i := range 20 {
			if !strings.Contains(document, fmt.Sprintf("books@customer%d.example", i)) {
				b.t.Errorf("the document does not have invoice %d", i)
			}
		}
		if strings.Contains(document, "anna@sender.example") || strings.Count(document, "DANE") < 20 {
			b.t.Errorf("%s", document)
		}
	})
}
