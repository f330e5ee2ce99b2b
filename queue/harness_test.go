package queue

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/store/badger/badgertest"
	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "40") // a few seconds; the command line may ask for more
	goleak.VerifyTestMain(m)
}

// bench is a queue on a store of its own, with both of its clocks in the hand
// of the test: Now is set by it, and advance moves the queue's own clock.
type bench struct {
	testing.TB
	*Queue
	st   storetest.Engine
	dir  string
	o    Options
	so   badger.Options
	logs *logs
	// place, if not nil, opens the store, in place of the one in dir.
	place opener

	mu  sync.Mutex
	now time.Time
}

type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), s)
}

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	return newBenchOn(t, nil, o)
}

// opener opens a store, and again after it was closed.
type opener func() (storetest.Engine, error)

// inMemory opens a store in memory.
func inMemory() opener {
	var p memory.Place
	return func() (storetest.Engine, error) { return p.Open(), nil }
}

// newBenchOn is newBench on the store of place, or, for nil, on Badger.
func newBenchOn(t testing.TB, place opener, o Options) *bench {
	t.Helper()
	b := &bench{TB: t, dir: t.TempDir(), place: place, o: o, now: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
	b.o.Now = func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.now
	}
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *bench) start() {
	b.Helper()
	b.logs = new(logs)
	b.o.Logger = slog.New(slog.NewTextHandler(b.logs, nil))
	b.so.Dir = b.dir
	var err error
	if b.place != nil {
		if b.st, err = b.place(); err != nil {
			b.Fatal(err)
		}
	} else if b.st, err = badger.Open(b.so); err != nil {
		b.Fatal(err)
	}
	b.o.Store = b.st
	if b.Queue, err = Open(b.o); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) stop() {
	b.Queue.Close()
	if err := b.st.Close(); err != nil {
		b.Error(err)
	}
}

func (b *bench) restart() {
	b.Helper()
	b.stop()
	b.start()
}

// crash goes on with a copy of the store as it lies on the disk now.
func (b *bench) crash(change ...func(dir string)) {
	b.Helper()
	to := badgertest.Copy(b.TB, b.dir)
	b.stop()
	for _, f := range change {
		f(to)
	}
	b.dir = to
	b.start()
}

// advance moves the queue's own clock and the wall clock.
func (b *bench) advance(d time.Duration) {
	b.Queue.mu.Lock()
	b.clock.epoch = b.clock.epoch.Add(-d)
	b.Queue.mu.Unlock()
	b.step(d)
}

// step moves the wall clock only.
func (b *bench) step(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// sync waits until what was submitted is written.
func (b *bench) sync() {
	b.Helper()
	if err := store.Commit(context.Background(), b.st, new(store.Batch)); err != nil {
		b.Fatal(err)
	}
}

// to makes an envelope; a recipient's domain is what stands behind its @.
func to(addresses ...string) Envelope {
	env := Envelope{From: "sender@example.org", Client: "ex01 [10.0.0.5]"}
	for _, a := range addresses {
		_, domain, _ := strings.Cut(a, "@")
		env.Recipients = append(env.Recipients, Recipient{Address: a, Domain: domain})
	}
	return env
}

func (b *bench) accept(body string, env Envelope) ID {
	b.Helper()
	in, err := b.Begin()
	if err != nil {
		b.Fatal(err)
	}
	defer in.Abort()
	if _, err := io.WriteString(in, body); err != nil {
		b.Fatal(err)
	}
	if err := in.Commit(context.Background(), env); err != nil {
		b.Fatal(err)
	}
	return in.ID()
}

// Claim claims and loads.
func (b *bench) Claim(ctx context.Context) (*Claim, error) {
	for {
		w, err := b.Queue.Claim(ctx)
		if err != nil || w.Load() {
			return w, err
		}
	}
}

// try claims what is due now, nil where nothing is.
func (b *bench) try() *Claim {
	b.sync()
	for {
		w, _ := b.tryClaim()
		if w == nil || w.Load() {
			return w
		}
	}
}

func (b *bench) claim() *Claim {
	b.Helper()
	w := b.try()
	if w == nil {
		b.Fatal("nothing is due")
	}
	return w
}

func (b *bench) nothing(when string) {
	b.Helper()
	if w := b.try(); w != nil {
		b.Fatalf("%s %s was claimed, attempt %d", when, w.Domain, w.Attempts+1)
	}
}

func all(w *Claim, s State) []RecipientState {
	out := make([]RecipientState, len(w.Recipients))
	for i := range out {
		out[i] = RecipientState{State: s, LastReply: "reply " + string(s)}
		if s == Queued {
			out[i].LastError = "put off"
		}
	}
	return out
}

func (b *bench) finish(w *Claim, s State) {
	b.Finish(w, Outcome{Results: all(w, s)})
	b.sync()
}

func (b *bench) fail(w *Claim) {
	b.Finish(w, Outcome{Results: all(w, Queued), DomainBackoff: DomainBackoff{Reason: Reason{Code: "connect", Text: "connection refused"}}})
	b.sync()
}

func (b *bench) show(id ID) Message {
	b.Helper()
	m, err := b.Show(id)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func (b *bench) ids(f Filter) (ids []ID) {
	b.Helper()
	if err := b.List(context.Background(), f, func(m Message) bool { ids = append(ids, m.ID); return true }); err != nil {
		b.Fatal(err)
	}
	return ids
}

func (b *bench) keys(prefix []byte) (n int) {
	b.Helper()
	if err := b.st.ScanKeys(prefix, nil, func([]byte) error { n++; return nil }); err != nil {
		b.Fatal(err)
	}
	return n
}

// touched is for the answers of Retry, Hold and the like.
func (b *bench) touched(want int) func(int, error) {
	return func(n int, err error) {
		b.Helper()
		if err != nil || n != want {
			b.Fatalf("touched %d, want %d; %v", n, want, err)
		}
	}
}

func numbered(domain string, n int) (addresses []string) {
	for i := range n {
		addresses = append(addresses, fmt.Sprintf("user%d@%s", i, domain))
	}
	return addresses
}

// spoil makes a message unreadable, in the store and in memory.
func (b *bench) spoil(id ID) {
	b.Helper()
	seq := b.byID[id].Seq
	if err := store.Put(b.Context(), b.st, messageKey(seq), []byte{0xff, 0x00}); err != nil {
		b.Fatal(err)
	}
	b.fresh.forget(seq)
}
