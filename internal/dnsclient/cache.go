package dnsclient

import (
	"container/list"
	"sync"
	"time"
)

// cache keeps answers until their time is over, the least used ones go first
// when it is full.
type cache struct {
	size int
	now  func() time.Time

	mu      sync.Mutex
	entries map[question]*list.Element
	used    *list.List // of *cached, the latest used first
}

type cached struct {
	question question
	answer   *answer
	until    time.Time
}

func newCache(size int, now func() time.Time) *cache {
	return &cache{size: size, now: now, entries: make(map[question]*list.Element), used: list.New()}
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

func (c *cache) put(q question, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[q]; ok {
		c.remove(el)
	}
	if a.ttl <= 0 {
		return
	}
	c.entries[q] = c.used.PushFront(&cached{question: q, answer: a, until: c.now().Add(a.ttl)})
	if len(c.entries) > c.size {
		c.remove(c.used.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	delete(c.entries, el.Value.(*cached).question)
	c.used.Remove(el)
}
