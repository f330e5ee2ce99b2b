package notify

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
)

// A notice that a sender gets once a day does not come again after a restart.
func TestSuppressionOutlivesARestart(t *testing.T) {
	for name, sender := range map[string]string{
		"an address":                     "a@x.example",
		"longer than a key of the store": strings.Repeat("a", 1500) + "@x.example",
	} {
		t.Run(name, func(t *testing.T) { outlives(t, sender) })
	}
}

func outlives(t *testing.T, sender string) {
	t.Helper()
	r := &relayOf{t: t, dir: filepath.Join(t.TempDir(), "store"), now: now}
	r.open()
	told := func() bool {
		t.Helper()
		w, states := work(queue.Envelope{From: sender}, queue.Recipient{Address: "k@bank.example", Domain: "bank.example"})
		states[0].State, states[0].ReasonCode, states[0].Status, states[0].LastError = queue.Queued, "tls-cert", "4.7.5", "4.7.5 no"
		m, ok := r.Delay(w, states)
		if ok {
			if err := r.queue.Add([]queue.NewMessage{m}, nil); err != nil {
				t.Fatal(err)
			}
		}
		return ok
	}
	for i, tt := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Hour, false}, {22 * time.Hour, false}, {time.Hour, true}, {-365 * 24 * time.Hour, true}} { // the clock was ahead
		r.now = r.now.Add(tt.after)
		if got := told(); got != tt.want {
			t.Errorf("%d: told %t", i, got)
		}
		r.close()
		r.open()
	}
	r.now = r.now.Add(2 * suppressFor)
	r.close()
	r.open()
	r.close()
	r.open()
	defer r.close()
	if err := r.store.ScanKeys(store.PrefixTold, nil, func(k []byte) error {
		t.Errorf("%q is left", k)
		return nil
	}); err != nil {
		t.Error(err)
	}
}
