package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// ways are the ways of sending that a host's offer leads to.
var ways = []struct {
	name    string
	without []string
	with    []string
}{
	{"step by step", []string{"PIPELINING"}, nil},
	{"PIPELINING", nil, nil},
	{"CHUNKING", nil, []string{"CHUNKING"}},
}

// waits waits until a message has had an attempt and is not gone.
func (w *world) waits(id string) queue.RecipientState {
	w.t.Helper()
	m, gone := w.attempted(id)
	if gone {
		w.t.Fatalf("%s has left the queue", id)
	}
	return m.States[0]
}

// gone waits until a message has left the queue.
func (w *world) gone(id string) {
	w.t.Helper()
	w.waitFor(id+" to leave the queue", func(q *queue.Queue) bool {
		_, err := q.Show(ulid.MustParse(id))
		return err != nil
	})
}

// What a host refuses or puts off costs no other message of the session anything:
// each arrives under its own sender, at the first attempt, and no command comes out
// of its order.
func TestARefusedTransactionCostsTheNextOneNothing(t *testing.T) {
	for _, way := range ways {
		for _, tt := range []struct {
			name   string
			faults testnet.Faults
			gone   bool // it is bounced
		}{
			{"all recipients refused", testnet.Faults{Recipients: map[string]string{"bad@a.example": "550 5.1.1 no such user"}}, true},
			{"all recipients put off", testnet.Faults{Recipients: map[string]string{"bad@a.example": "450 4.2.0 grey"}}, false},
			{"content put off", testnet.Faults{Replies: map[string]string{"data": "451 4.7.1 grey", "bdat": "451 4.7.1 grey"}}, false},
			{"content refused", testnet.Faults{Replies: map[string]string{"data": "554 5.7.1 no", "bdat": "554 5.7.1 no"}}, true},
			{"message put off", testnet.Faults{Replies: map[string]string{"dot": "451 4.7.1 grey", "bdat": "452 4.3.1 full"}}, false},
			{"message refused", testnet.Faults{Replies: map[string]string{"dot": "554 5.7.1 spam", "bdat": "554 5.7.1 spam"}}, true},
			{"sender put off", testnet.Faults{Replies: map[string]string{"mail": "451 4.7.1 grey"}}, false},
			{"sender refused", testnet.Faults{Replies: map[string]string{"mail": "550 5.7.1 not you"}}, true},
		} {
			t.Run(way.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "retry = [\"1h\"]\n")
				h := w.host("mx.a.example")
				w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
				tt.faults.Without, tt.faults.With = way.without, way.with
				w.set(h, tt.faults)
				id := w.send("bad@sender.example", "bad@a.example")
				if tt.gone {
					w.gone(id)
				} else {
					w.waits(id)
				}
				h.Mend()
				for i := range 3 {
					w.gone(w.send(fmt.Sprintf("good%d@sender.example", i), "kurt@a.example"))
				}
				var from []string
				for _, m := range h.Messages() {
					from = append(from, m.From+">"+m.To)
				}
				if want := []string{"good0@sender.example>kurt@a.example", "good1@sender.example>kurt@a.example", "good2@sender.example>kurt@a.example"}; !slices.Equal(from, want) {
					t.Errorf("arrived: %v", from)
				}
				if b := h.Breaches(); len(b) > 0 {
					t.Errorf("out of order: %q", b)
				}
				if c := h.Counts(); c.Connections > 2 {
					t.Errorf("%d sessions", c.Connections)
				}
			})
		}
	}
}

// Good and bad recipients and senders in a rush, over few sessions: every good
// message arrives once under its own sender, every bad one is bounced once.
func TestGoodAndBadInARush(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "retry = [\"1s\"]\n")
			h, back := w.host("mx.a.example"), w.host("mx.sender.example")
			w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
			w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
			w.set(h, testnet.Faults{Without: way.without, With: way.with, Recipients: map[string]string{"nobody@a.example": "550 5.1.1 no such user"}})
			const n = 60
			for i := range n {
				w.send(fmt.Sprintf("s%d@sender.example", i), []string{"kurt@a.example", "nobody@a.example"}[i%2])
			}
			w.wait(h, n/2)
			w.wait(back, n/2)
			w.empty()
			seen := make(map[string]int)
			for _, m := range h.Messages() {
				seen[m.From+" "+m.To]++
			}
			for _, m := range back.Messages() {
				seen[m.To]++
			}
			for i := range n {
				sender := fmt.Sprintf("s%d@sender.example", i)
				if good := i%2 == 0; good && seen[sender+" kurt@a.example"] != 1 || good == (seen[sender] == 1) {
					t.Errorf("%s: arrived %d, bounced %d", sender, seen[sender+" kurt@a.example"], seen[sender])
				}
			}
			if b := h.Breaches(); len(b) > 0 {
				t.Errorf("out of order: %q", b)
			}
		})
	}
}

// Nothing of a message leaves before the answer to the one before, however long
// that takes, and whatever the host does with it.
func TestNothingLeavesBeforeTheAnswer(t *testing.T) {
	for _, way := range ways {
		for _, drop := range []bool{false, true} {
			t.Run(fmt.Sprint(way.name, drop), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "retry = [\"1h\"]\nconcurrency_per_host = 2\n")
				h := w.host("mx.a.example")
				w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
				w.set(h, testnet.Faults{Without: way.without, With: way.with, Delay: 2e6, DropBehindEnd: drop})
				const n = 40
				for i := range n {
					w.send(fmt.Sprintf("s%d@sender.example", i), "kurt@a.example")
				}
				got := w.wait(h, n)
				if b := h.Breaches(); len(b) > 0 || len(got) != n {
					t.Errorf("%d messages; out of order: %q", len(got), b)
				}
				if text := string(got[0].Data); !strings.Contains(text, "\r\n.dot\r\n") {
					t.Errorf("it came as %q", text)
				}
			})
		}
	}
}
