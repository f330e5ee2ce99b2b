package relay_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// letter is a message that lies in the value log.
func letter(word string) string {
	return "Subject: " + word + "\r\n\r\n" + strings.Repeat(strings.Repeat(word+" ", 8)+"\r\n", 100)
}

// spoil changes an octet of what holds word in the store's files.
func (w *world) spoil(pattern, word string) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(relay.StoreDir(w.dir), pattern))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		at := bytes.Index(data, []byte(word))
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{data[at] ^ 1}, int64(at))
		if err = errors.Join(err, f.Close()); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	w.t.Fatalf("%q is in none of %v", word, files)
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
			w := newWorld(t, "paused = true\n")
			h, back := w.host("mx.a.example"), w.host("mx.sender.example")
			w.set(h, row.faults)
			w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
			w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
			ids := make([]string, 3)
			for i, word := range []string{"before", "spoiled", "behind"} {
				var err error
				if ids[i], err = sendMail(w.addr, "anna@sender.example", letter(word), "kurt@a.example"); err != nil {
					t.Fatal(err)
				}
			}
			if row.running {
				w.spoil("*.vlog", "spoiled spoiled")
				w.relay.Queue().SetPaused(false)
			} else {
				w.stop()
				w.spoil("*.vlog", "spoiled spoiled")
				w.start("delay_notice = \"1ms\"\nexpire = \"1h\"\n")
			}
			for _, m := range w.wait(h, 2) {
				if bytes.Contains(m.Data, []byte("Subject: spoiled")) {
					t.Error("a message that is damaged was delivered")
				}
			}
			var m adminapi.Message
			w.waitFor("the message to be held", func(q *queue.Queue) bool {
				return w.admin().Get(t.Context(), "/v1/queue/"+ids[1], nil, &m) == nil && m.State == "held" && q.Counts().Messages == 1
			})
			if m.Why.Code != "local" || !strings.Contains(m.HeldFor, "cannot read it from its disk") {
				t.Errorf("held for %q, why %+v", m.HeldFor, m.Why)
			}
			if row.running && (m.Recipients[0].Why != "local" || m.Recipients[0].State != "queued") {
				t.Errorf("%+v", m.Recipients[0])
			}
			if n := w.relay.Queue().Counts(); n.Unreadable != 1 || n.Held != 1 {
				t.Errorf("%+v", n)
			}
			err := w.admin().Get(t.Context(), "/v1/queue/"+ids[1]+"/content", nil, new(any))
			if err == nil || !strings.Contains(err.Error(), "cannot be read from the disk") {
				t.Errorf("its content: %v", err)
			}
			if got := back.Messages(); len(got) > 0 {
				t.Errorf("the sender was told:\n%s", got[0].Data)
			}
			w.stop()
			w.start("")
			var status adminapi.Status
			w.waitFor("the operator to be told", func(*queue.Queue) bool {
				err := w.admin().Get(t.Context(), "/v1/status", nil, &status)
				return err == nil && len(status.Troubles) > 0 && strings.Contains(status.Troubles[0].What, "1 message cannot be read from the disk")
			})
			if q := w.relay.Queue(); q.Counts().Unreadable != 1 {
				t.Errorf("after another start: %+v", q.Counts())
			}
			if _, err := w.relay.Queue().Remove(t.Context(), queue.Filter{IDs: []queue.ID{ulid.MustParse(ids[1])}}); err != nil || w.relay.Queue().Counts() != (queue.Counts{}) {
				t.Errorf("after its removal: %v, %+v", err, w.relay.Queue().Counts())
			}
		})
	}
}

// A damaged store is not opened. The words say what is damaged, how much is
// sound, and what to do.
func TestTheRelayDoesNotStartOnADamagedStore(t *testing.T) {
	w := newWorld(t, "paused = true\n")
	for range 5 {
		w.send("anna@sender.example", "kurt@a.example")
	}
	w.stop()
	w.spoil("*.sst", "anna@sender.example")
	c, _, err := config.Load(w.configure(""), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = relay.New(relay.Options{Config: c, Dial: w.DialContext, Roots: w.CA.Roots()})
	if _, ok := errors.AsType[*store.DamageError](err); !ok {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"000001.sst: the block at octets 0 to ", "does not match its checksum", "4 of 5 messages are sound", "nothing was changed",
		"stsrelay queue rescue --data-dir " + w.dir + " FILE", "stsrelay queue import FILE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}
