package queue

import (
	"context"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// ReadMessages calls yield for the selected messages in the store of a queue that another
// process has open, oldest first, until it returns false. What that process knows from
// memory alone is not in them: a back-off of a domain, and changes that are not durable.
// now is the time of that process, for Filter.OlderThan. A message that cannot be read is
// passed over.
func ReadMessages(ctx context.Context, st store.Reader, now time.Time, f Filter, yield func(Message) bool) error {
	r := elsewhere{ctx: ctx, now: now, f: f, yield: yield, active: make(map[uint64]bool)}
	if f.IDs != nil {
		r.ids = make(map[ID]bool, len(f.IDs))
		for _, id := range f.IDs {
			r.ids[id] = true
		}
	}
	var refs []inFlightRef
	if err := st.View(keyInFlight, func(v []byte) error { return decode(v, &refs) }); err != nil {
		return err
	}
	for _, ref := range refs {
		r.active[ref.Seq] = true
	}
	if err := st.Scan(store.PrefixMessage, nil, r.record); err != nil {
		return err
	}
	_ = r.emit() // it is the last one
	return nil
}

// elsewhere puts the records of a message together.
type elsewhere struct {
	ctx    context.Context
	now    time.Time
	f      Filter
	ids    map[ID]bool // nil: all
	active map[uint64]bool
	yield  func(Message) bool
	seq    uint64
	open   *Message // whose records are being read; nil: none
}

func (r *elsewhere) record(k, v []byte) error {
	seq, n, ok := parseMessageKey(k)
	switch {
	case !ok:
	case n < 0:
		if err := r.emit(); err != nil {
			return err
		}
		m := &Message{records: make(map[int]groupRecord)}
		if decode(v, &m.Envelope) == nil {
			r.seq, r.open = seq, m
		}
	case r.open == nil || r.seq != seq:
	case n == holdSuffix:
		_ = decode(v, &r.open.held) // what cannot be read holds nothing
	default:
		var rec groupRecord
		if decode(v, &rec) == nil {
			r.open.records[n] = rec
		}
	}
	return r.ctx.Err()
}

// emit passes the message that was read to yield, if it is selected.
func (r *elsewhere) emit() error {
	m := r.open
	r.open = nil
	if m == nil || r.ids != nil && !r.ids[m.ID] {
		return nil
	}
	left := r.complete(m)
	switch f := &r.f; {
	case !left, f.Domain != "" && !waitsFor(m, f.Domain), f.State != "" && f.State != m.State,
		f.OlderThan > 0 && r.now.Sub(m.ReceivedAt) <= f.OlderThan, !f.matches(m):
		return nil
	}
	if !r.yield(*m) {
		return store.Stop
	}
	return nil
}

// complete sets the states of m from its records, and reports whether a recipient has no
// end yet.
func (r *elsewhere) complete(m *Message) (left bool) {
	m.States, m.Waits = make([]RecipientState, len(m.Recipients)), make([]Wait, len(m.Recipients))
	switch {
	case !m.held.Since.IsZero() && !m.held.Released:
		m.State, m.HeldFor, m.Unreadable = Held, m.held.Reason, m.held.Unreadable
	case r.active[r.seq]:
		m.State = Active
	default:
		m.State = Queued
	}
	for n, group := range split(m.Recipients) {
		rec := m.records[n]
		for i, to := range group {
			s, w := &m.States[to], &m.Waits[to]
			s.State = Queued
			if len(rec.States) == len(group) {
				*s = rec.States[i]
			}
			m.Attempts = max(m.Attempts, s.Attempts)
			if s.State != Queued || rec.Done {
				continue
			}
			left = true
			w.LastAttemptAt = rec.LastAttempt
			if m.State != Held {
				w.NextAttemptAt = rec.NextAttempt
			}
			if at := w.NextAttemptAt; !at.IsZero() && (m.NextAttemptAt.IsZero() || at.Before(m.NextAttemptAt)) {
				m.NextAttemptAt = at
			}
		}
	}
	return left
}

// waitsFor reports whether recipients in a domain have no end yet.
func waitsFor(m *Message, domain string) bool {
	for i, r := range m.Recipients {
		if r.Domain == domain && m.States[i].State == Queued {
			return true
		}
	}
	return false
}
