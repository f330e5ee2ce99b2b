package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// What needs a person is mailed to one: mail that waits for the other side's
// mistake, with what helps, and a DKIM key whose record is gone.
func TestTheOperatorIsToldOfTrouble(t *testing.T) {
	w := e2e.NewWithClock(t)
	bad, back := w.Host("mx1.bad.example"), w.Host("mx1.operator.example")
	w.SetFaults(bad, testnet.Faults{NoStartTLS: true})
	w.Domain("bad.example", testnet.Domain{MX: []string{bad.Name}, Policy: testnet.Policy{ID: "1", Mode: "enforce", MX: []string{bad.Name}, MaxAge: 86400}})
	w.Domain("operator.example", testnet.Domain{MX: []string{back.Name}})
	w.Start("[notices]\noperator = \"root@operator.example\"\n" + w.PublishKeys("ed25519"))
	w.Send("anna@operator.example", "kurt@bad.example")
	w.WaitFor("the message to be put off", func(q *queue.Queue) bool {
		s := q.Summary()
		return len(s) == 1 && s[0].Last.Code == "tls-none"
	})
	w.DNS.Remove("s0._domainkey.test.example", "TXT")
	// The queue's own clock is the real one, and that of the test must not go back.
	w.Clock.Set(time.Now().Add(24 * time.Hour))
	got, err := back.Wait(w.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var status operator.Status
	if err := w.Admin().Get(t.Context(), "/v1/status", nil, &status); err != nil || len(status.Alerts) != 2 || !strings.Contains(status.Alerts[1].What, "bad.example") {
		t.Errorf("%v, %+v", err, status.Alerts)
	}
	m, err := mail.ReadMessage(bytes.NewReader(got[0].Data))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || got[0].From != "" {
		t.Errorf("from %q, %v", got[0].From, err)
	}
	text := m.Header.Get("Subject") + "\n" + string(body)
	for _, want := range []string{
		"relay.test.example: 2 new troubles", "mail for bad.example waits, 1 message, the oldest since ", "(tls-none: 4.7.5 bad.example asks for verified TLS",
		"What helps: Tell the domain's postmaster; stsrelay check bad.example", "the DKIM key s0._domainkey.test.example is not believed: it is not published yet",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// letter is a message that lies in the value log.
func letter(word string) string {
	return "Subject: " + word + "\r\n\r\n" + strings.Repeat(strings.Repeat(word+" ", 8)+"\r\n", 100)
}

// spoil changes an octet of what holds word in the store's files.
func spoil(w *e2e.World, pattern, word string) {
	w.T.Helper()
	files, err := filepath.Glob(filepath.Join(relay.StoreDir(w.Dir), pattern))
	if err != nil {
		w.T.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			w.T.Fatal(err)
		}
		at := bytes.Index(data, []byte(word))
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			w.T.Fatal(err)
		}
		_, err = f.WriteAt([]byte{data[at] ^ 1}, int64(at))
		if err = errors.Join(err, f.Close()); err != nil {
			w.T.Fatal(err)
		}
		return
	}
	w.T.Fatalf("%q is in none of %v", word, files)
}

// A message that cannot be read from the disk is held at once, whether that is
// seen at the start or when it is sent. The others go, the operator is told, and
// the sender hears nothing of the other side.
func TestMailThatCannotBeReadIsHeldAndTheOperatorTold(t *testing.T) {
	for _, row := range []struct {
		name    string
		running bool
		faults  testnet.Faults
	}{{"seen at the start", false, testnet.Faults{}}, {"seen when it is sent", true, testnet.Faults{}}, {"seen when it is sent to a host without 8BITMIME", true, testnet.Faults{Without: []string{"8BITMIME"}}}} {
		t.Run(row.name, func(t *testing.T) {
			w := e2e.New(t, "paused = true\n")
			h, back := w.Host("mx.a.example"), w.Host("mx.sender.example")
			w.SetFaults(h, row.faults)
			w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
			w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
			ids := make([]string, 3)
			for i, word := range []string{"before", "spoiled", "behind"} {
				var err error
				if ids[i], err = e2e.SendMail(w.Addr, "anna@sender.example", letter(word), "kurt@a.example"); err != nil {
					t.Fatal(err)
				}
			}
			if row.running {
				w.Stop() // what was accepted a moment ago is sent from memory
				w.Start("paused = true\n")
				spoil(w, "*.vlog", "spoiled spoiled")
				w.Relay.Queue().SetPaused(false)
			} else {
				w.Stop()
				spoil(w, "*.vlog", "spoiled spoiled")
				w.Start("delay_notice = \"1ms\"\nexpire = \"1h\"\n")
			}
			for _, m := range w.Received(h, 2) {
				if bytes.Contains(m.Data, []byte("Subject: spoiled")) {
					t.Error("a message that is damaged was delivered")
				}
			}
			var m operator.Message
			w.WaitFor("the message to be held", func(q *queue.Queue) bool {
				return w.Admin().Get(t.Context(), "/v1/queue/"+ids[1], nil, &m) == nil && m.State == "held" && q.Counts().Messages == 1
			})
			if m.Reason.Code != "local" || !strings.Contains(m.HeldFor, "cannot read it from its disk") {
				t.Errorf("held for %q, why %+v", m.HeldFor, m.Reason)
			}
			if row.running && (m.Recipients[0].Reason != "local" || m.Recipients[0].State != "queued") {
				t.Errorf("%+v", m.Recipients[0])
			}
			if n := w.Relay.Queue().Counts(); n.Unreadable != 1 || n.Held != 1 {
				t.Errorf("%+v", n)
			}
			err := w.Admin().Get(t.Context(), "/v1/queue/"+ids[1]+"/content", nil, new(any))
			if err == nil || !strings.Contains(err.Error(), "cannot be read from the disk") {
				t.Errorf("its content: %v", err)
			}
			if got := back.Messages(); len(got) > 0 {
				t.Errorf("the sender was told:\n%s", got[0].Data)
			}
			w.Stop()
			w.Start("")
			var status operator.Status
			w.WaitFor("the operator to be told", func(*queue.Queue) bool {
				err := w.Admin().Get(t.Context(), "/v1/status", nil, &status)
				return err == nil && len(status.Alerts) > 0 && strings.Contains(status.Alerts[0].What, "1 message cannot be read from the disk")
			})
			if q := w.Relay.Queue(); q.Counts().Unreadable != 1 {
				t.Errorf("after another start: %+v", q.Counts())
			}
			if _, err := w.Relay.Queue().Remove(t.Context(), queue.Filter{IDs: []queue.ID{ulid.MustParse(ids[1])}}); err != nil || w.Relay.Queue().Counts() != (queue.Counts{}) {
				t.Errorf("after its removal: %v, %+v", err, w.Relay.Queue().Counts())
			}
		})
	}
}

// A damaged store is not opened. The words say what is damaged, how much is
// sound, and what to do.
func TestTheRelayDoesNotStartOnADamagedStore(t *testing.T) {
	w := e2e.New(t, "paused = true\n")
	for range 5 {
		w.Send("anna@sender.example", "kurt@a.example")
	}
	w.Stop()
	spoil(w, "*.sst", "anna@sender.example")
	c, _, err := config.Load(w.Configure(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = relay.New(relay.Options{Config: c, Dial: w.DialContext, Roots: w.CA.Roots()})
	if _, ok := errors.AsType[*badger.DamageError](err); !ok {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{".sst: the block at octets 0 to ", "does not match its checksum", "4 of 5 messages are sound", "nothing was changed",
		"stsrelay queue rescue --data-dir " + w.Dir + " FILE", "stsrelay queue import FILE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// An authority that gives the relay no certificate of its own is a trouble: the relay shows
// one that it has signed itself meanwhile.
func TestAnAuthorityThatGivesNoCertificateIsATrouble(t *testing.T) {
	w := e2e.NewStopped(t)
	w.Start(fmt.Sprintf("[publisher]\nhttps = \"127.0.0.1:%d\"\n[tls]\nacme = true\n[acme]\ndirectory = \"https://127.0.0.1:1/directory\"\nagree = true\n", freeTCPPort(t)))
	await.Until(t, "the trouble", func() bool {
		var status operator.Status
		if err := w.Admin().Get(t.Context(), "/v1/status", nil, &status); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(status.Alerts, func(a alert.Alert) bool {
			return a.Key == "certificate-acme" && strings.Contains(a.What, "gets no certificate") && strings.Contains(a.What, "127.0.0.1:1")
		})
	})
}
