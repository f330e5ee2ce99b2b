package logsink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader is a writer that a test lets through, or makes fail.
type reader struct {
	mu   sync.Mutex
	got  bytes.Buffer
	gate chan struct{} // closed: lines get through
	err  error
}

func (r *reader) Write(p []byte) (int, error) {
	<-r.gate
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	return r.got.Write(p)
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

func TestLinesArriveInOrderAndWhole(t *testing.T) {
	r := &reader{gate: make(chan struct{})}
	close(r.gate)
	s := New(Options{Writer: r})
	var want strings.Builder
	for i := range 10_000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		if n, err := io.WriteString(s, line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.text() != want.String() || s.Dropped().Lines != 0 {
		t.Errorf("%d octets of %d, dropped %d", len(r.text()), want.Len(), s.Dropped().Lines)
	}
}

// A reader that stalls holds nobody up. What does not fit is counted, the oldest
// lines are kept, and the count is told when the reader goes on.
func TestAStalledReaderHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{gate: make(chan struct{})}
		s := New(Options{Writer: r, Limit: 100, Resumed: func(s *Sink, n uint64) { fmt.Fprintf(s, "dropped %d\n", n) }})
		line := strings.Repeat("x", 9) + "\n"
		_, _ = io.WriteString(s, "first....\n")
		synctest.Wait() // it is under way to the reader
		for range 25 {
			_, _ = io.WriteString(s, line)
		}
		if d := s.Dropped(); d.Lines != 15 || !d.Last.Equal(time.Now()) {
			t.Errorf("%+v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		close(r.gate)
		synctest.Wait()
		if err := s.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if want := "first....\n" + strings.Repeat(line, 10) + "dropped 15\n"; !strings.HasPrefix(r.text(), "first....\n") || strings.Count(r.text(), "dropped 15\n") != 1 || len(r.text()) != len(want) {
			t.Errorf("%q", r.text())
		}
	})
}

func TestACloseDoesNotWaitForAStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{gate: make(chan struct{})}
		s := New(Options{Writer: r})
		_, _ = io.WriteString(s, "never read\n")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(r.gate)
	})
}

func TestAReaderThatIsGoneIsCounted(t *testing.T) {
	r := &reader{gate: make(chan struct{}), err: io.ErrClosedPipe}
	close(r.gate)
	s := New(Options{Writer: r})
	for range 3 {
		_, _ = io.WriteString(s, "a\nb\n")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := s.Dropped(); d.Lines != 6 {
		t.Errorf("%+v", d)
	}
	if n, err := io.WriteString(s, "after the end\n"); n != 14 || err != nil {
		t.Error(n, err)
	}
	if d := s.Dropped(); d.Lines != 7 {
		t.Errorf("%+v", d)
	}
}
