package sts

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// maxMemory bounds what is in memory beside the cards, in octets: 40,000 policies
	// of the usual size. Other entries are read from the
	// store when they are needed. At most half of it is for entries that are not stored.
	maxMemory = 32 << 20
	// maxStored bounds what the store keeps, in octets. A domain counts for at least
	// minCharge, so that one that is in the cache has room for a longer policy, or
	// for a failure beside it, when there is none for others.
	maxStored = 512 << 20
	minCharge = 4 << 10
	// fullFor is the time between two searches for domains to remove, where a search
	// found none; sayFullEvery is the time between two warnings about that.
	fullFor      = time.Minute
	sayFullEvery = time.Hour
)

// cache has the entries of all domains. They are in the store; the entries that were
// used last are in memory too, and so is a card of every domain. An entry that could not
// be stored stays in memory.
//
// Only one lookup at a time changes a domain (see lookup).
type cache struct {
	store      Store
	prefix     []byte
	room       func(n int64) error // of the disk; nil: there is always some
	log        *slog.Logger
	maxDomains int
	maxMemory  int
	maxStored  int

	mu     sync.RWMutex
	cards  map[string]*card
	hot    map[string]*entry
	memory int // octets of hot
	pinned int // of it, those of entries that are not in the store
	stored int // octets in the store, as they are charged

	fullUntil, saidFull time.Time
}

// load reads the store. An entry that cannot be read counts as absent: its policy is
// fetched again when it is needed.
func (c *cache) load() error {
	return c.store.Scan(c.prefix, func(k, v []byte) error {
		domain := string(k[len(c.prefix):])
		e, err := decode(v)
		if err != nil {
			c.log.Error("a cached policy cannot be read; it is fetched again when it is needed", "domain", domain, "error", err)
			return nil
		}
		c.cards[domain] = e.card
		e.card.charge = charge(domain, v)
		c.stored += e.card.charge
		if c.memory+e.size <= c.maxMemory {
			c.hot[domain] = e
			c.memory += e.size
		}
		return nil
	})
}

func charge(domain string, value []byte) int { return max(len(domain)+len(value), minCharge) }

// card returns the card of a domain, nil where there is none.
func (c *cache) card(domain string) *card {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.cards[domain]
}

// get returns the entry of a domain, nil where there is none. The error is that of the
// store; it does not mean that there is none.
func (c *cache) get(domain string) (*entry, error) {
	for {
		c.mu.RLock()
		card, e := c.cards[domain], c.hot[domain]
		c.mu.RUnlock()
		if card == nil || e != nil {
			return e, nil
		}
		value, err := c.store.Get(c.key(domain))
		if err != nil {
			return nil, fmt.Errorf("read the cached policy of %s: %w", domain, err)
		}
		if value != nil {
			if e, err = decode(value); err != nil {
				c.log.Error("a cached policy cannot be read; it is fetched again when it is needed", "domain", domain, "error", err)
			}
		}
		if e, ok := c.readIn(domain, card, e); ok {
			return e, nil
		}
	}
}

// readIn puts an entry that was read from the store into memory; e is nil where the
// store has none. ok is false where the domain has changed meanwhile: the caller must
// read it again, because nil would mean that it has no policy.
func (c *cache) readIn(domain string, card *card, e *entry) (_ *entry, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch hot := c.hot[domain]; {
	case c.cards[domain] != card:
		return nil, false
	case hot != nil:
		return hot, true
	case e == nil:
		c.removeLocked(domain)
	case e.card.fetchedAt == card.fetchedAt && e.card.refreshAt == card.refreshAt:
		e.card = card
		c.putInMemoryLocked(domain, e)
	} // else a newer one is on its way through the store
	return e, true
}

// putInMemoryLocked adds an entry to those in memory, and removes others where there
// are too many.
func (c *cache) putInMemoryLocked(domain string, e *entry) {
	c.hot[domain] = e
	c.memory += e.size
	if c.memory <= c.maxMemory {
		return
	}
	// The entries that were used last stay. A few more than needed are removed,
	// because the search takes a while.
	var cold []string
	for d, e := range c.hot {
		if !e.card.pinned && d != domain {
			cold = append(cold, d)
		}
	}
	c.sortByUseLocked(cold)
	for _, d := range cold {
		if c.memory <= c.maxMemory/10*9 {
			break
		}
		c.memory -= c.hot[d].size
		delete(c.hot, d)
	}
}

// evictUnsavedLocked makes place for n more octets of entries that are in memory only:
// it removes such domains, the least recently used first.
func (c *cache) evictUnsavedLocked(n int) {
	if c.pinned+n <= c.maxMemory/2 {
		return
	}
	var out []string
	for d, e := range c.hot {
		if e.card.pinned && e.card.charge == 0 {
			out = append(out, d)
		}
	}
	c.sortByUseLocked(out)
	for _, d := range out {
		if c.pinned+n <= c.maxMemory/10*4 {
			break
		}
		c.removeLocked(d)
	}
}

// sortByUseLocked sorts domains by their last use.
func (c *cache) sortByUseLocked(domains []string) {
	slices.SortFunc(domains, func(a, b string) int { return cmp.Compare(c.cards[a].used.Load(), c.cards[b].used.Load()) })
}

// removeLocked removes a domain from memory.
func (c *cache) removeLocked(domain string) {
	if e := c.hot[domain]; e != nil {
		c.memory -= e.size
		if e.card.pinned {
			c.pinned -= e.size
		}
		delete(c.hot, domain)
	}
	if card := c.cards[domain]; card != nil {
		c.stored -= card.charge
		delete(c.cards, domain)
	}
}

// fits reports whether the store may take value for a domain: what is new, or
// grows, only within the bounds, and while the disk has room.
func (c *cache) fits(domain string, value []byte) bool {
	c.mu.RLock()
	old, domains, stored := c.cards[domain], len(c.cards), c.stored
	c.mu.RUnlock()
	n := charge(domain, value)
	switch {
	case old != nil && n <= old.charge:
		return true
	case old != nil:
		stored -= old.charge
	case domains >= c.maxDomains:
		return false
	}
	return stored+n <= c.maxStored && (c.room == nil || c.room(int64(n)) == nil)
}

// put writes an entry that fits to the store and keeps it in memory. It is kept in
// memory too where it does not fit or the write fails: a store with a problem must not
// take the policy from the delivery that waits for it. Only a new entry for which there
// is no place in memory either is not kept.
func (c *cache) put(ctx context.Context, domain string, e *entry, value []byte, fits bool) {
	e.size, e.card.charge, e.card.pinned = sizeOf(domain, value), charge(domain, value), !fits
	if fits {
		if err := c.store.Put(ctx, c.key(domain), value); err != nil {
			c.log.Error("the policy cache cannot be written; the policy is kept in memory", "domain", domain, "error", err)
			e.card.pinned = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	inStore := 0
	if old := c.cards[domain]; old != nil {
		inStore = old.charge
	}
	if e.card.pinned {
		e.card.charge = inStore
		if c.evictUnsavedLocked(e.size); c.pinned+e.size > c.maxMemory/2 {
			return // what was there before stays as it is
		}
	}
	c.removeLocked(domain)
	if e.card.pinned {
		c.pinned += e.size
	}
	c.cards[domain] = e.card
	c.stored += e.card.charge
	c.putInMemoryLocked(domain, e)
}

// idle lists domains without a policy in force, the least recently used first: as many
// as must be removed before there is room for others, and a few more. It is empty where
// it was empty a short time ago.
func (c *cache) idle(now time.Time) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.fullUntil) && c.fullUntil.Sub(now) <= fullFor {
		return nil
	}
	var out []string
	for d, card := range c.cards {
		if !card.valid(now) {
			out = append(out, d)
		}
	}
	c.sortByUseLocked(out)
	domains, octets := len(c.cards)-c.maxDomains+c.maxDomains/100+1, c.stored-c.maxStored+c.maxStored/100
	n := 0
	for ; n < len(out) && (domains > 0 || octets > 0); n++ {
		domains--
		octets -= c.cards[out[n]].charge
	}
	if n == 0 {
		c.fullUntil = now.Add(fullFor)
		if since := now.Sub(c.saidFull); since < 0 || since >= sayFullEvery {
			c.saidFull = now
			c.log.Warn("the policy cache is full, or the disk is: what is in force stays; the policies of new domains are kept in memory while there is room",
				"domains", len(c.cards), "octets", c.stored)
		}
	}
	return out[:n]
}

// remove removes a domain from memory and store. ok reports whether it was there.
func (c *cache) remove(ctx context.Context, domain string) (ok bool, err error) {
	c.mu.Lock()
	ok = c.cards[domain] != nil
	c.removeLocked(domain)
	c.mu.Unlock()
	if err = c.store.Delete(ctx, c.key(domain)); err != nil {
		c.log.Error("a policy cannot be removed from the store", "domain", domain, "error", err)
	}
	return ok, err
}

// each calls fn with every domain's card, which it must not keep.
func (c *cache) each(fn func(domain string, card *card)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for d, card := range c.cards {
		fn(d, card)
	}
}

// all returns every entry for display. Entries that are not in memory are read from the
// store, and not kept in memory.
func (c *cache) all(now time.Time) []Entry {
	c.mu.RLock()
	out := make([]Entry, 0, len(c.cards))
	cold := make(map[string]*card)
	for d, card := range c.cards {
		if e := c.hot[d]; e != nil {
			out = append(out, e.export(d, now))
		} else {
			cold[d] = card
		}
	}
	c.mu.RUnlock()
	if len(cold) == 0 {
		return out
	}
	err := c.store.Scan(c.prefix, func(k, v []byte) error {
		domain := string(k[len(c.prefix):])
		card := cold[domain]
		if card == nil {
			return nil
		}
		if e, err := decode(v); err == nil {
			e.card.used.Store(card.used.Load())
			out = append(out, e.export(domain, now))
		}
		return nil
	})
	if err != nil {
		c.log.Error("the policy cache cannot be read; not all of it is shown", "error", err)
	}
	return out
}

func (c *cache) key(domain string) []byte {
	return append(append(make([]byte, 0, len(c.prefix)+len(domain)), c.prefix...), domain...)
}
