package dnsclient

import (
	"container/list"
	"sync"
	"time"
)

// entryOverhead is what an entry costs beside its answer and its name: the
// element of the list, the place in the map, the question.
const entryOverhead = 320

// cache keeps answers until their time is over, the least used ones go first
// when it is full. It is bounded by octets: an answer may hold 60 or 60,000.
type cache struct {
	limit int // octets
	now   func() time.Time

	mu      sync.Mutex
	entries map[question]*list.Element
	used    *list.List // of *cached, the latest used first
	octets  int
}

type cached struct {
	question question
	answer   *answer
	until    time.Time
	octets   int
}

func newCache(limit int, now func() time.Time) *cache {
	return &cache{limit: limit, now: now, entries: make(map[question]*list.Element), used: list.New()}
}

func (c *cache) get(q question) (*answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[q]
	if !ok {
		return nil, false
	}
	e := el.Value.(*cached)
	now := c.now() // under the lock: not earlier than any put
	// A clock that was set back must not keep an answer longer than its TTL.
	if left := e.until.Sub(now); left <= 0 || left > e.answer.ttl {
		c.remove(el)
		return nil, false
	}
	c.used.MoveToFront(el)
	return e.answer, true
}

// has reports whether get may find the answer to q.
func (c *cache) has(q question) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[q] != nil
}

func (c *cache) put(q question, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[q]; ok {
		c.remove(el)
	}
	if a.ttl <= 0 {
		return
	}
	e := &cached{question: q, answer: a, until: c.now().Add(a.ttl), octets: a.size() + len(q.name) + entryOverhead}
	c.entries[q] = c.used.PushFront(e)
	c.octets += e.octets
	for c.octets > c.limit {
		c.remove(c.used.Back())
	}
}

func (c *cache) forget(q question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[q]; ok {
		c.remove(el)
	}
}

func (c *cache) remove(el *list.Element) {
	e := el.Value.(*cached)
	delete(c.entries, e.question)
	c.used.Remove(el)
	c.octets -= e.octets
}
