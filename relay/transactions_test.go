package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/delivery"
)

// Message follows message through few sessions, without waiting for answers,
// whatever the host offers: all arrive, whole, once.
func TestMessagesFollowEachOther(t *testing.T) {
	const n = 300
	for _, tt := range []struct {
		name   string
		faults testnet.Faults
	}{
		{"PIPELINING", testnet.Faults{}},
		{"no PIPELINING", testnet.Faults{Without: []string{"PIPELINING"}}},
		{"CHUNKING", testnet.Faults{With: []string{"CHUNKING"}}},
		{"CHUNKING offered and not known", testnet.Faults{With: []string{"CHUNKING"}, Replies: map[string]string{"bdat": "500 5.5.1 what?"}}},
		{"far away", testnet.Faults{Latency: 20 * time.Millisecond}},
		{"CHUNKING far away", testnet.Faults{Latency: 20 * time.Millisecond, With: []string{"CHUNKING"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.New(t, "")
			h := w.Host("mx1.follow.example")
			tt.faults.Recipients = map[string]string{"nobody@follow.example": "550 5.1.1 no such user"}
			if err := h.Set(tt.faults); err != nil {
				t.Fatal(err)
			}
			w.Domain("follow.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
			var wg sync.WaitGroup
			for s := range 10 {
				wg.Go(func() {
					for i := s; i < n; i += 10 {
						to := []string{"kurt@follow.example"}
						if i%7 == 0 {
							to = append(to, "nobody@follow.example")
						}
						body := fmt.Sprintf("Subject: %d\r\n\r\n.\r\n..dots\r\n%s\r\n", i, strings.Repeat("x", i*50%900))
						if _, err := e2e.SendMail(w.Addr, "", body, to...); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			got, err := h.Wait(w.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			w.WaitFor("the queue to be empty", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
			seen := make(map[string]bool)
			for _, m := range got {
				text := string(m.Data)
				_, subject, _ := strings.Cut(text, "Subject: ")
				subject, rest, _ := strings.Cut(subject, "\r\n")
				if seen[subject] {
					t.Errorf("message %s came twice", subject)
				}
				seen[subject] = true
				var i int
				_, _ = fmt.Sscan(subject, &i)
				if want := fmt.Sprintf("\r\n.\r\n..dots\r\n%s\r\n", strings.Repeat("x", i*50%900)); rest != want {
					t.Errorf("message %s came as %q", subject, rest)
				}
				if !slices.Equal(m.Recipients, []string{"kurt@follow.example"}) {
					t.Errorf("message %s is for %v", subject, m.Recipients)
				}
			}
			most := int64(12)
			if tt.faults.Latency > 0 {
				most = delivery.MostPerHost + 2 // sessions to a host far away grow
			}
			if c := h.Counts(); c.Handshakes > most && tt.faults.Replies == nil {
				t.Errorf("%d handshakes for %d messages", c.Handshakes, n)
			}
		})
	}
}

// A host that ends sessions with 421 in the middle of what is on its way loses
// nothing and gets nothing twice.
func TestSessionsThatEndInTheMiddle(t *testing.T) {
	for _, with := range [][]string{nil, {"CHUNKING"}} {
		w := e2e.New(t, "retry = [\"1s\"]\n")
		h := w.Host("mx1.cut.example")
		if err := h.Set(testnet.Faults{With: with, SessionMessages: 5}); err != nil {
			t.Fatal(err)
		}
		w.Domain("cut.example", testnet.Domain{MX: []string{h.Name}})
		const n = 100
		for i := range n {
			if _, err := e2e.SendMail(w.Addr, "", fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i), "kurt@cut.example"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Wait(w.Context(), n); err != nil {
			t.Fatal(err)
		}
		w.WaitFor("the queue to be empty", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
		if got := h.Counts().Messages; got != n {
			t.Errorf("with %v: %d messages came for %d", with, got, n)
		}
	}
}

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

// What a host refuses or puts off costs no other message of the session anything:
// each arrives under its own sender, at the first attempt, and no command comes out
// of its order.
func TestARefusedTransactionCostsTheNextOneNothing(t *testing.T) {
	all := e2e.New(t, "retry = [\"1h\"]\n")
	for i, way := range ways {
		for j, tt := range []struct {
			name   string
			faults testnet.Faults
			gone   bool // it is bounced
		}{
			{"all recipients refused", testnet.Faults{Recipients: map[string]string{"bad": "550 5.1.1 no such user"}}, true},
			{"all recipients put off", testnet.Faults{Recipients: map[string]string{"bad": "450 4.2.0 grey"}}, false},
			{"content put off", testnet.Faults{Replies: map[string]string{"data": "451 4.7.1 grey", "bdat": "451 4.7.1 grey"}}, false},
			{"content refused", testnet.Faults{Replies: map[string]string{"data": "554 5.7.1 no", "bdat": "554 5.7.1 no"}}, true},
			{"message put off", testnet.Faults{Replies: map[string]string{"dot": "451 4.7.1 grey", "bdat": "452 4.3.1 full"}}, false},
			{"message refused", testnet.Faults{Replies: map[string]string{"dot": "554 5.7.1 spam", "bdat": "554 5.7.1 spam"}}, true},
			{"sender put off", testnet.Faults{Replies: map[string]string{"mail": "451 4.7.1 grey"}}, false},
			{"sender refused", testnet.Faults{Replies: map[string]string{"mail": "550 5.7.1 not you"}}, true},
		} {
			t.Run(way.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				w := all.In(t)
				domain := fmt.Sprintf("a%d-%d.example", i, j)
				h := w.Host("mx." + domain)
				w.Domain(domain, testnet.Domain{MX: []string{h.Name}})
				tt.faults.Without, tt.faults.With = way.without, way.with
				if reply, ok := tt.faults.Recipients["bad"]; ok {
					tt.faults.Recipients = map[string]string{"bad@" + domain: reply}
				}
				w.SetFaults(h, tt.faults)
				id := w.Send("bad@sender.example", "bad@"+domain)
				if tt.gone {
					w.WaitUntilGone(id)
				} else {
					w.Deferred(id)
				}
				h.Mend()
				for i := range 3 {
					w.WaitUntilGone(w.Send(fmt.Sprintf("good%d@sender.example", i), "kurt@"+domain))
				}
				var from []string
				for _, m := range h.Messages() {
					from = append(from, m.From+">"+m.To)
				}
				if want := []string{"good0@sender.example>kurt@" + domain, "good1@sender.example>kurt@" + domain, "good2@sender.example>kurt@" + domain}; !slices.Equal(from, want) {
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
			w := e2e.New(t, "retry = [\"1s\"]\n")
			h, back := w.Host("mx.a.example"), w.Host("mx.sender.example")
			w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
			w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
			w.SetFaults(h, testnet.Faults{Without: way.without, With: way.with, Recipients: map[string]string{"nobody@a.example": "550 5.1.1 no such user"}})
			const n = 60
			for i := range n {
				w.Send(fmt.Sprintf("s%d@sender.example", i), []string{"kurt@a.example", "nobody@a.example"}[i%2])
			}
			w.Received(h, n/2)
			w.Received(back, n/2)
			w.WaitUntilEmpty()
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
				w := e2e.New(t, "retry = [\"1h\"]\nconcurrency_per_host = 2\n")
				h := w.Host("mx.a.example")
				w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
				w.SetFaults(h, testnet.Faults{Without: way.without, With: way.with, Delay: 2e6, DropBehindEnd: drop})
				const n = 40
				for i := range n {
					w.Send(fmt.Sprintf("s%d@sender.example", i), "kurt@a.example")
				}
				got := w.Received(h, n)
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
