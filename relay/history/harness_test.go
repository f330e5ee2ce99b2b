package history

import (
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is the wall clock of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)} }

func open(t *testing.T, dir string, c *clock, change ...func(*Options)) *Log {
	t.Helper()
	o := Options{Dir: dir, Key: []byte("secret"), Settings: Settings{Keep: 720 * time.Hour, Addresses: AddressesFull}, Now: c.Now}
	for _, f := range change {
		f(&o)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func find(t *testing.T, l *Log, q Query) (list []Record) {
	t.Helper()
	if err := l.Search(t.Context(), q, func(r Record) bool { list = append(list, r); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

func ids(list []Record) string {
	var out []string
	for _, r := range list {
		out = append(out, r.QueueID)
	}
	return strings.Join(out, " ")
}

func attempt(id, from, to, verdict string) Record {
	return Record{Kind: Attempt, QueueID: id, MessageID: "<" + id + "@sender.example>", From: from, To: []string{to}, Domain: to[strings.LastIndexByte(to, '@')+1:],
		Verdict: verdict, Host: "mx.example", Reply: "250 2.0.0 " + to + " queued as 4Xk", TLS: &TLS{Version: "TLS 1.3", Proof: ProofSTS}}
}
