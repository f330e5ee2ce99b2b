package relay_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// testLogger writes to the test's log. A benchmark formats its lines as the
// program does, and throws them away.
func testLogger(t testing.TB) *slog.Logger {
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // formatting is part of the cost
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// From a message in the log one finds its notice, and where both went.
func TestTheLogLeadsFromAMessageToItsNotice(t *testing.T) {
	w, log := newLoggedWorld(t, "")
	h, back := w.host("mx1.refuses.example"), w.host("mx1.sender.example")
	w.set(h, testnet.Faults{Replies: map[string]string{"rcpt": "550 5.1.1 nobody"}})
	w.domain("refuses.example", testnet.Domain{MX: []string{h.Name}})
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	id := w.send("anna@sender.example", "kurt@refuses.example")
	if _, err := back.Wait(w.context(), 1); err != nil {
		t.Fatal(err)
	}
	w.waitFor("the end of the notice", func(q *queue.Queue) bool {
		return q.Counts().Messages == 0 && strings.Contains(log.String(), "notice queued")
	})
	type line struct {
		Msg, IP, Host string
		ID            string `json:"queue_id"`
		Original      string `json:"original_queue_id"`
	}
	lines := make(map[string]line) // by message, and what was said
	for text := range strings.Lines(log.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		lines[l.ID+" "+l.Msg] = l
		if l.Msg == "notice queued" {
			lines["notice"] = l
		}
	}
	notice := lines["notice"]
	if notice.Original != id || notice.ID == "" || notice.ID == id {
		t.Fatalf("%+v\n%s", notice, log)
	}
	for id, host := range map[string]*testnet.Host{id: h, notice.ID: back} {
		if l := lines[id+" attempt"]; l.Host != host.Name || l.IP != host.IP {
			t.Errorf("%+v, want %s at %s", l, host.Name, host.IP)
		}
	}
}
