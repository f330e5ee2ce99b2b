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
	// of the usual size. The rest is read from the
	// store when it is asked for. Half of it, at most, is for what is not in the store.
	maxMemory = 32 << 20
	// maxStored bounds what the store keeps, in octets. A domain counts for at least
	// minCharge, so that one that is in the cache has room for a longer policy, or
	// for a failure beside it, when there is none for others.
	maxStored = 512 << 20
	minCharge = 4 << 10
	// fullFor is how long nothing is looked for that could make room, after nothing
	// was found; sayFullEvery is how often the log tells of that.
	fullFor      = time.Minute
	sayFullEvery = time.Hour
)

// cache is the entries: in the store, and those used last in memory too. Of
// every domain there is a card in memory. What the store could not take is in
// memory alone, and stays there.
//
// Changes of one domain come one after the other: the Manager's flights see to
// that.
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

// load reads the store. An entry that cannot be read is as if it were not there,
// and is fetched again when it is needed.
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

// get returns the entry of a domain, nil where there is none. The error is one of
// the store, and says nothing about the domain.
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

// readIn takes an entry that was read from the store into memory, nil where there
// is none there. ok is false where the domain has changed meanwhile: then it must
// be looked at again, as nil would say that it has no policy.
func (c *cache) readIn(domain string, card *card, e *entry) (_ *entry, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch hot := c.hot[domain]; {
	case c.cards[domain] != card:
		return nil, false
	case hot != nil:
		return hot, true
	case e == nil:
		c.takeOut(domain)
	case e.card.fetchedAt == card.fetchedAt && e.card.refreshAt == card.refreshAt:
		e.card = card
		c.warm(domain, e)
	} // else a newer one is on its way through the store
	return e, true
}

// warm puts an entry into memory. The caller holds the lock.
func (c *cache) warm(domain string, e *entry) {
	c.hot[domain] = e
	c.memory += e.size
	if c.memory <= c.maxMemory {
		return
	}
	// Those used last stay. A little more than is needed goes: looking at all of
	// them takes a while.
	var cold []string
	for d, e := range c.hot {
		if !e.card.pinned && d != domain {
			cold = append(cold, d)
		}
	}
	c.byUse(cold)
	for _, d := range cold {
		if c.memory <= c.maxMemory/10*9 {
			break
		}
		c.memory -= c.hot[d].size
		delete(c.hot, d)
	}
}

// makePlace forgets domains that are in memory alone, those unused for longest
// first, where there is no place for n more octets of them and a little. The
// caller holds the lock.
func (c *cache) makePlace(n int) {
	if c.pinned+n <= c.maxMemory/2 {
		return
	}
	var out []string
	for d, e := range c.hot {
		if e.card.pinned && e.card.charge == 0 {
			out = append(out, d)
		}
	}
	c.byUse(out)
	for _, d := range out {
		if c.pinned+n <= c.maxMemory/10*4 {
			break
		}
		c.takeOut(d)
	}
}

// byUse sorts domains by their last use. The caller holds the lock.
func (c *cache) byUse(domains []string) {
	slices.SortFunc(domains, func(a, b string) int { return cmp.Compare(c.cards[a].used.Load(), c.cards[b].used.Load()) })
}

// takeOut removes a domain from memory. The caller holds the lock.
func (c *cache) takeOut(domain string) {
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

// put writes an entry that fits into the store and keeps it in memory, also where
// it does not fit or the store does not take it: a store in trouble must not take
// a policy away from the delivery that waits for it. Only what is new and has no
// place in memory either is not kept.
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
		if c.makePlace(e.size); c.pinned+e.size > c.maxMemory/2 {
			return // what was there before stays as it is
		}
	}
	c.takeOut(domain)
	if e.card.pinned {
		c.pinned += e.size
	}
	c.cards[domain] = e.card
	c.stored += e.card.charge
	c.warm(domain, e)
}

// idle lists domains without a policy in force, those unused for longest first,
// for as many as must go before there is room for others, and a few more. It
// lists none where there were none a short time ago.
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
	c.byUse(out)
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

// remove removes a domain from memory and store. ok says that it was there.
func (c *cache) remove(ctx context.Context, domain string) (ok bool, err error) {
	c.mu.Lock()
	ok = c.cards[domain] != nil
	c.takeOut(domain)
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

// all returns every entry as it is shown. What is in the store alone is read from
// there, and stays there.
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
