package web

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/clientnet"
)

const (
	// freeTries is how many wrong tokens an address may show before it must wait.
	freeTries = 5
	// maxDelay bounds how much later a wrong token is answered.
	maxDelay = 16 * time.Second
	// triesMemory is how long wrong tokens of an address count.
	triesMemory = 15 * time.Minute
	// mostAddresses is how many addresses are remembered before old ones are forgotten.
	mostAddresses = 10_000
)

// brake slows down clients that try tokens, as ingress does with passwords: the tries of
// one address are judged one at a time, each wrong one is answered later than the one
// before, and after some of them none is judged before a time.
type brake struct {
	first time.Duration // delay of the first wrong token; each one doubles it
	mu    sync.Mutex
	tries map[netip.Addr]*tries
}

// tries is what an address has tried.
type tries struct {
	turn  chan struct{} // of one: who judges a token of the address
	wrong int           // tokens since the last right one
	last  time.Time     // of the last wrong one
	next  time.Time     // no token is judged before
}

// try judges a token of an address by right. It returns how long the address has to wait
// where the token was not judged. A wrong token takes its delay.
func (b *brake) try(ctx context.Context, a netip.Addr, right func() bool) (ok bool, wait time.Duration) {
	t := b.of(a)
	if wait := b.wait(t); wait > 0 {
		return false, wait // those that come meanwhile do not queue up
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return false, maxDelay
	}
	defer func() { <-t.turn }()
	if wait := b.wait(t); wait > 0 {
		return false, wait
	}
	if right() {
		b.mu.Lock()
		t.wrong, t.next = 0, time.Time{}
		b.mu.Unlock()
		return true, 0
	}
	select {
	case <-time.After(b.failed(t)):
	case <-ctx.Done():
	}
	return false, 0
}

// of returns the tries of an address; all addresses of a network are one.
func (b *brake) of(a netip.Addr) *tries {
	a = clientnet.Of(a)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.tries) > mostAddresses {
		for k, t := range b.tries {
			if time.Since(t.last) > triesMemory && len(t.turn) == 0 {
				delete(b.tries, k)
			}
		}
	}
	t := b.tries[a]
	if t == nil {
		t = &tries{turn: make(chan struct{}, 1)}
		b.tries[a] = t
	}
	return t
}

// wait returns how long no token is judged, 0 where one may be now.
func (b *brake) wait(t *tries) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.wrong < freeTries {
		return 0
	}
	return max(0, time.Until(t.next))
}

// failed counts a wrong token, and returns the delay of its answer.
func (b *brake) failed(t *tries) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if now.Sub(t.last) > triesMemory {
		t.wrong = 0
	}
	delay := min(b.first<<min(t.wrong, 10), maxDelay)
	t.wrong++
	t.last, t.next = now, now.Add(2*delay) // the delay itself, and as long after it
	return delay
}
