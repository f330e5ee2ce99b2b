package queue

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	q, err := Open(Options{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	in, _ := q.Begin()
	in.Write([]byte(strings.Repeat("x", 700000)))
	if err := in.Commit(t.Context(), Envelope{From: "a@b", Recipients: []Recipient{{Address: "x@c.d", Domain: "c.d"}, {Address: "x@e.d", Domain: "e.d"}}}); err != nil {
		t.Fatal(err)
	}
	w, _ := q.Claim(t.Context())
	b, _ := io.ReadAll(w.Body())
	fmt.Println(w.Domain, len(b), w.Envelope.Chunks)
	q.Finish(w, Outcome{Results: []RecipientState{{State: Queued, LastError: "bad"}}})
	w, _ = q.Claim(t.Context())
	q.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}}})
	q.Close()
	st.Close()
	st, _ = store.Open(store.Options{Dir: dir})
	q, err = Open(Options{Store: st})
	fmt.Println(err, q.Counts())
	q.List(t.Context(), Filter{}, func(m Message) bool { fmt.Printf("%+v\n", m); return true })
	n, err := q.Retry(t.Context(), Filter{Domain: "c.d"})
	fmt.Println(n, err)
	w, _ = q.Claim(t.Context())
	fmt.Println(w.Attempts, w.States)
	q.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}}})
	fmt.Println(q.Counts())
	q.Close()
	st.Close()
}

func BenchmarkAccept(b *testing.B) {
	for _, n := range []int{1, 20, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			st, _ := store.Open(store.Options{Dir: b.TempDir()})
			q, _ := Open(Options{Store: st, Paused: true})
			body := make([]byte, 10<<10)
			var wg sync.WaitGroup
			start := time.Now()
			for range n {
				wg.Go(func() {
					for range b.N / n {
						in, _ := q.Begin()
						in.Write(body)
						if err := in.Commit(context.Background(), Envelope{From: "a@b.example", Client: "x [127.0.0.1]", Recipients: []Recipient{{Address: "user@example.com", Domain: "example.com"}}}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "msg/s")
			q.Close()
			st.Close()
		})
	}
}
