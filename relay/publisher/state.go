package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// flushEvery is how long counts may wait to be written. A crash costs so much of them,
// and nothing else.
const flushEvery = time.Minute

// state is what is stored of a domain, at store.PrefixPublish DOMAIN, as CBOR.
type state struct {
	// Text is what is served, and Since when it was served first.
	Text  string    `cbor:"1,keyasint"`
	Since time.Time `cbor:"2,keyasint"`
	// Mode and MaxAge are those of Text.
	Mode   string        `cbor:"3,keyasint"`
	MaxAge time.Duration `cbor:"4,keyasint"`
	// Binds is until when senders may hold another text that was served before.
	Binds time.Time `cbor:"5,keyasint"`
	// Left is when the domain left the configuration; zero: it has not.
	Left time.Time `cbor:"6,keyasint"`
	// LastFetch is the last time that Text, or one before it, was fetched.
	LastFetch time.Time `cbor:"7,keyasint"`
	// Fetches are those of Day, "2026-11-28".
	Day     string `cbor:"8,keyasint"`
	Fetches int    `cbor:"9,keyasint"`
}

// replaced notes that Text is not served any more from now on: whoever has fetched it may
// hold it for its max_age. A text that nobody has fetched binds nobody.
func (s *state) replaced(now time.Time) {
	if s.Text == "" || s.LastFetch.IsZero() || s.LastFetch.Before(s.Since) || !binding(s.Mode) {
		return
	}
	if until := now.Add(s.MaxAge); until.After(s.Binds) {
		s.Binds = until
	}
}

func key(domain string) []byte {
	return append(append([]byte{}, store.PrefixPublish...), domain...)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// load reads all that is stored, by domain. What is served now counts where it is newer.
func (p *Publisher) load() (map[string]state, error) {
	out := make(map[string]state)
	prefix := key("")
	err := p.o.Store.Scan(prefix, nil, func(k, v []byte) error {
		var s state
		if err := cbor.Unmarshal(v, &s); err != nil {
			return fmt.Errorf("the published policy of %q in the store: %w", k[len(prefix):], err)
		}
		out[string(k[len(prefix):])] = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, e := range *p.served.Load() {
		if _, ok := out[e.domain.Name]; ok {
			out[e.domain.Name] = e.snapshot()
		}
	}
	return out, nil
}

// write adds the state of e to a batch.
func (e *entry) write(b *store.Batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	value, err := cbor.Marshal(e.state)
	if err != nil {
		panic(err) // the type can be written
	}
	b.Set(key(e.domain.Name), value)
	e.dirty = false
}

// flush writes the states that have changed.
func (p *Publisher) flush(ctx context.Context) {
	p.changing.Lock()
	defer p.changing.Unlock()
	var b store.Batch
	n := 0
	for _, e := range *p.served.Load() {
		e.mu.Lock()
		dirty := e.dirty
		e.mu.Unlock()
		if dirty {
			e.write(&b)
			n++
		}
	}
	if n == 0 {
		return
	}
	if err := store.Commit(ctx, p.o.Store, &b); err != nil && !errors.Is(err, store.ErrClosed) {
		p.o.Logger.Error("fetches of policies cannot be written", "error", err)
	}
}

// fetched notes a fetch. The first one of a text is written at once: from then on it
// binds.
func (p *Publisher) fetched(e *entry) {
	now := p.o.Now()
	e.mu.Lock()
	first := e.state.LastFetch.Before(e.state.Since) || e.state.LastFetch.IsZero()
	e.state.LastFetch = now
	if today := day(now); e.state.Day != today {
		e.state.Day, e.state.Fetches = today, 0
	}
	e.state.Fetches++
	e.dirty = true
	e.mu.Unlock()
	if first {
		var b store.Batch
		e.write(&b)
		p.o.Store.Submit(&b, func(err error) {
			if err != nil && !errors.Is(err, store.ErrClosed) {
				p.o.Logger.Error("the first fetch of a policy cannot be written", "domain", e.domain.Name, "error", err)
			}
		})
	}
}
