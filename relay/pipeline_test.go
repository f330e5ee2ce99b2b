package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
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
			w := newWorld(t, "")
			h := w.host("mx1.follow.example")
			tt.faults.Recipients = map[string]string{"nobody@follow.example": "550 5.1.1 no such user"}
			if err := h.Set(tt.faults); err != nil {
				t.Fatal(err)
			}
			w.domain("follow.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
			var wg sync.WaitGroup
			for s := range 10 {
				wg.Go(func() {
					for i := s; i < n; i += 10 {
						to := []string{"kurt@follow.example"}
						if i%7 == 0 {
							to = append(to, "nobody@follow.example")
						}
						body := fmt.Sprintf("Subject: %d\r\n\r\n.\r\n..dots\r\n%s\r\n", i, strings.Repeat("x", i*50%900))
						if _, err := sendMail(w.addr, "", body, to...); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			got, err := h.Wait(w.context(), n)
			if err != nil {
				t.Fatal(err)
			}
			w.waitFor("the queue to be empty", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
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
			if c := h.Counts(); c.Handshakes > 12 && tt.faults.Replies == nil {
				t.Errorf("%d handshakes for %d messages", c.Handshakes, n)
			}
		})
	}
}

// A host that ends sessions with 421 in the middle of what is on its way loses
// nothing and gets nothing twice.
func TestSessionsThatEndInTheMiddle(t *testing.T) {
	for _, with := range [][]string{nil, {"CHUNKING"}} {
		w := newWorld(t, "retry = [\"1s\"]\n")
		h := w.host("mx1.cut.example")
		if err := h.Set(testnet.Faults{With: with, SessionMessages: 5}); err != nil {
			t.Fatal(err)
		}
		w.domain("cut.example", testnet.Domain{MX: []string{h.Name}})
		const n = 100
		for i := range n {
			if _, err := sendMail(w.addr, "", fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i), "kurt@cut.example"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Wait(w.context(), n); err != nil {
			t.Fatal(err)
		}
		w.waitFor("the queue to be empty", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
		if got := h.Counts().Messages; got != n {
			t.Errorf("with %v: %d messages came for %d", with, got, n)
		}
	}
}
