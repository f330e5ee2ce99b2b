// Package live has what the live view shows beside the queue: how fast mail comes in
// and goes out, and what the last attempts came to.
//
// It reads counters that exist, once a second. The last results are in a ring of atomic
// pointers, so that attempts wait for nobody who looks.
package live

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Totals are counters since the start of the relay.
type Totals struct {
	Accepted                     int64 // messages
	Delivered, Deferred, Bounced int64 // recipients
	Commits                      uint64
	CommitTime                   time.Duration // of all commits
}

// Rate is how fast mail has come in and gone out, in the last seconds.
type Rate struct {
	// Window is the span that was asked for, and Seconds the one that was measured:
	// it is shorter where the relay has not run for so long.
	Window  int     `json:"window_seconds"`
	Seconds float64 `json:"seconds"`
	// Accepted is in messages a second, the others in recipients a second.
	Accepted  float64 `json:"accepted_per_second"`
	Delivered float64 `json:"delivered_per_second"`
	Deferred  float64 `json:"deferred_per_second"`
	Bounced   float64 `json:"bounced_per_second"`
	// CommitMS is how long a commit of the store took, in milliseconds, on average; 0
	// where there was none.
	CommitMS float64 `json:"commit_ms"`
}

// Result is what an attempt came to, for recipients with equal results.
type Result struct {
	At      time.Time `json:"at"`
	QueueID string    `json:"queue_id"`
	Domain  string    `json:"domain"`
	// Recipients is how many there are, Verdict "delivered", "deferred" or "bounced".
	Recipients int    `json:"recipients"`
	Verdict    string `json:"verdict"`
	// Host and IP are those of the host that decided; "" where none did.
	Host string `json:"host"`
	IP   string `json:"ip"`
	// Why is the code of the reason, Text the reason in words.
	Why        string  `json:"why"`
	Text       string  `json:"text"`
	Reply      string  `json:"reply"`
	Protection string  `json:"protection"` // of the session, in one word
	Took       float64 `json:"took_seconds"`

	n uint64 // its number
}

const (
	results = 20      // that are remembered
	seconds = 15 * 60 // for which totals are remembered, one each second
)

// windows are those of Rates, in seconds.
var windows = []int{10, 60, seconds}

// Meter measures a running relay. New makes one; it may be used by many goroutines.
type Meter struct {
	read func() Totals

	mu      sync.Mutex // of those who look, and of Run
	samples []sample   // the oldest first

	added atomic.Uint64
	last  [results]atomic.Pointer[Result]
}

type sample struct {
	at     time.Time
	totals Totals
}

// New returns a Meter of the counters that read returns.
func New(read func() Totals) *Meter {
	m := &Meter{read: read}
	m.sample()
	return m
}

// Run reads the counters once a second until ctx ends.
func (m *Meter) Run(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			m.sample()
		}
	}
}

func (m *Meter) sample() {
	s := sample{time.Now(), m.read()}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) > seconds {
		m.samples = slices.Delete(m.samples, 0, len(m.samples)-seconds)
	}
	m.samples = append(m.samples, s)
}

// Rates returns the rates of the last 10 seconds, minute and 15 minutes.
func (m *Meter) Rates() []Rate {
	now := sample{time.Now(), m.read()}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Rate, 0, len(windows))
	for _, w := range windows {
		from := now.at.Add(-time.Duration(w) * time.Second)
		i, _ := slices.BinarySearchFunc(m.samples, from, func(s sample, t time.Time) int { return s.at.Compare(t) })
		out = append(out, rate(w, m.samples[min(i, len(m.samples)-1)], now))
	}
	return out
}

// rate is what happened between two samples.
func rate(window int, from, to sample) Rate {
	r := Rate{Window: window, Seconds: to.at.Sub(from.at).Seconds()}
	if r.Seconds <= 0 {
		return Rate{Window: window}
	}
	each := func(a, b int64) float64 { return float64(b-a) / r.Seconds }
	a, b := from.totals, to.totals
	r.Accepted, r.Delivered = each(a.Accepted, b.Accepted), each(a.Delivered, b.Delivered)
	r.Deferred, r.Bounced = each(a.Deferred, b.Deferred), each(a.Bounced, b.Bounced)
	if n := b.Commits - a.Commits; n > 0 {
		r.CommitMS = float64((b.CommitTime - a.CommitTime).Microseconds()) / 1000 / float64(n)
	}
	return r
}

// Add adds a result. It waits for nothing. The Meter owns r from then on.
func (m *Meter) Add(r *Result) {
	r.n = m.added.Add(1)
	m.last[r.n%results].Store(r)
}

// Results returns the last results, the newest first.
func (m *Meter) Results() []Result {
	out := make([]Result, 0, results)
	for i := range m.last {
		if r := m.last[i].Load(); r != nil {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b Result) int { return cmp.Compare(b.n, a.n) })
	return out
}
