package queue

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Filter selects messages; the zero Filter selects all. Several conditions
// must all hold. In From and To the case of the domain does not matter.
type Filter struct {
	IDs    []ID
	Domain string // a recipient that is not at its end has this domain
	From   string // reverse-path, "<>" for the null sender
	To     string // a recipient's address
	State  State
	// OlderThan selects what has been in the queue for longer.
	OlderThan time.Duration
}

// List calls yield for the selected messages, oldest first, until it returns
// false. Messages that come and go meanwhile may or may not be among them. IDs
// that are not in the queue are passed over.
func (q *Queue) List(ctx context.Context, f Filter, yield func(Message) bool) error {
	var c cursor
	for !c.end {
		for _, e := range q.selectBatch(f, &c, 64) {
			if err := ctx.Err(); err != nil {
				return err
			}
			m, ok, err := q.message(e)
			if err != nil {
				return err
			}
			if ok && f.matches(&m) && !yield(m) {
				return nil
			}
		}
	}
	return nil
}

// cursor is where a listing stands.
type cursor struct {
	next *entry // to be looked at; nil at the beginning
	seq  uint64 // its number, should it be gone by then
	end  bool

	domain []*entry // of the domain that is asked for; found once
	found  bool
}

// selectBatch returns up to n entries from c on that memory alone does not rule
// out, and moves c; the lock is held for short times only.
func (q *Queue) selectBatch(f Filter, c *cursor, n int) (batch []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f.IDs != nil {
		for _, id := range f.IDs {
			if e := q.byID[id]; e != nil && q.mayMatch(f, e) {
				batch = append(batch, e)
			}
		}
		slices.SortFunc(batch, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
		c.end = true
		return slices.Compact(batch)
	}
	if f.Domain != "" {
		return q.selectDomain(f, c, n)
	}
	const looks = 20_000 // entries looked at under one lock
	e := c.next
	if e == nil || e.gone {
		for e = q.first; e != nil && e.seq < c.seq; e = e.next { //nolint:revive // the first that is not below
		}
	}
	for i := 0; e != nil && i < looks && len(batch) < n; i++ {
		if e.accepted && q.mayMatch(f, e) {
			batch = append(batch, e)
		}
		e = e.next
	}
	if c.next, c.end = e, e == nil; e != nil {
		c.seq = e.seq
	}
	return batch
}

// selectDomain is selectBatch for one domain: it looks at the units of that
// domain and at no others.
func (q *Queue) selectDomain(f Filter, c *cursor, n int) (batch []*entry) {
	if !c.found {
		c.found = true
		if d := q.domains[f.Domain]; d != nil {
			c.domain = make([]*entry, 0, d.total)
			for u := d.first; u != nil; u = u.sibling.next {
				c.domain = append(c.domain, u.msg)
			}
		}
		slices.Reverse(c.domain) // the newest stood first, so little is left to be sorted
		slices.SortFunc(c.domain, func(a, b *entry) int { return cmp.Compare(a.seq, b.seq) })
		c.domain = slices.Compact(c.domain) // a message may have several units there
	}
	for len(c.domain) > 0 && len(batch) < n {
		if e := c.domain[0]; !e.gone && q.mayMatch(f, e) {
			batch = append(batch, e)
		}
		c.domain = c.domain[1:]
	}
	c.end = len(c.domain) == 0
	return batch
}

func (q *Queue) mayMatch(f Filter, e *entry) bool {
	if f.Domain != "" && !slices.ContainsFunc(e.units, func(u unit) bool { return !u.done && u.domain.name == f.Domain }) {
		return false
	}
	if f.OlderThan > 0 && time.Duration(q.clock()-e.receivedAt) <= f.OlderThan {
		return false
	}
	return f.State == "" || f.State == e.state()
}

func (f Filter) matches(m *Message) bool {
	if f.From != "" && !sameAddress(f.From, m.From) && !(f.From == "<>" && m.From == "") {
		return false
	}
	return f.To == "" || slices.ContainsFunc(m.Recipients, func(r Recipient) bool { return sameAddress(f.To, r.Address) })
}

// sameAddress compares the domain without case; the local part is a matter of
// the domain's own host.
func sameAddress(a, b string) bool {
	at := strings.LastIndexByte(a, '@')
	if at < 0 || at != strings.LastIndexByte(b, '@') {
		return a == b
	}
	return a[:at] == b[:at] && strings.EqualFold(a[at:], b[at:])
}

func (e *entry) state() State {
	switch {
	case e.held:
		return Held
	case e.active():
		return Active
	}
	return Queued
}

func (e *entry) active() bool {
	return slices.ContainsFunc(e.units, func(u unit) bool { return u.active })
}

// Show returns one message; the error wraps ErrNotFound.
func (q *Queue) Show(id ID) (Message, error) {
	e, err := q.find(id)
	if err != nil {
		return Message{}, err
	}
	m, ok, err := q.message(e)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return m, err
}

// Open returns a reader of the message's content; the error wraps ErrNotFound.
func (q *Queue) Open(id ID) (io.Reader, error) {
	m, err := q.Show(id)
	if err != nil {
		return nil, err
	}
	e, err := q.find(id)
	if err != nil {
		return nil, err
	}
	return newBody(q, e.seq, m.Chunks), nil
}

// Resolve returns the ID in the queue that s names: the whole of it or its
// beginning, in upper or lower case. The error wraps ErrNotFound where there is
// none, and ErrAmbiguous where the beginning fits several.
func (q *Queue) Resolve(s string) (ID, error) {
	s = strings.ToUpper(s)
	rest := ulid.EncodedSize - len(s)
	if s == "" || rest < 0 {
		return ID{}, fmt.Errorf("%q: %w", s, ErrNotFound)
	}
	low, err := ulid.ParseStrict(s + strings.Repeat("0", rest))
	if err != nil {
		return ID{}, fmt.Errorf("%q: %w", s, ErrNotFound)
	}
	high := ulid.MustParse(s + strings.Repeat("Z", rest))
	q.mu.Lock()
	defer q.mu.Unlock()
	if rest == 0 && q.byID[low] != nil {
		return low, nil
	}
	var found *entry
	for e := q.first; e != nil && rest > 0; e = e.next {
		if !e.accepted || e.id.Compare(low) < 0 || e.id.Compare(high) > 0 {
			continue
		}
		if found != nil {
			return ID{}, fmt.Errorf("%q: %w", s, ErrAmbiguous)
		}
		found = e
	}
	if found == nil {
		return ID{}, fmt.Errorf("%q: %w", s, ErrNotFound)
	}
	return found.id, nil
}

func (q *Queue) find(id ID) (*entry, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.byID[id]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("%s: %w", id, ErrNotFound)
}

// message reads the whole state of e; ok is false where it has left the queue.
// What it reads belongs together: it is read again where an attempt, or a unit,
// ended meanwhile.
func (q *Queue) message(e *entry) (m Message, ok bool, err error) {
	for {
		q.mu.Lock()
		before := e.changes()
		q.mu.Unlock()
		m, ok, err = q.read(e)
		if err != nil || !ok || m.changes == before {
			return m, ok, err
		}
	}
}

// changes grows with every attempt of e, and with every unit that ends.
func (e *entry) changes() (n int) {
	for i := range e.units {
		n += int(e.units[i].attempts)
		if e.units[i].done {
			n++
		}
	}
	return n
}

func (q *Queue) read(e *entry) (m Message, ok bool, err error) {
	records := make(map[int]unitRecord)
	m.records = records
	err = q.store.Scan(messageKey(e.seq), nil, func(k, v []byte) error {
		_, unit, _ := parseMessageKey(k)
		switch unit {
		case -1:
			ok = true
			return decode(v, &m.Envelope)
		case holdSuffix:
			return decode(v, &m.held)
		default:
			var r unitRecord
			err := decode(v, &r)
			records[unit] = r
			return err
		}
	})
	if err != nil || !ok {
		return m, false, err
	}
	m.States = make([]RecipientState, len(m.Recipients))
	m.Rests = make([]Reason, len(m.Recipients))
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.gone {
		return m, false, nil
	}
	m.changes = e.changes()
	m.State = e.state()
	switch {
	case e.held && m.held.Since.IsZero() && e.active():
		// Neither the results of the attempt nor the hold that they led to can be read
		// yet: the message is shown as it was before both.
		m.State = Active
	case e.held:
		m.HeldFor, m.Unreadable = m.held.Reason, e.unreadable
	}
	var next int64
	for n, group := range split(m.Recipients) {
		u := &e.units[n]
		for i, r := range group {
			m.States[r].State = Queued
			if rec := records[n]; len(rec.States) == len(group) {
				m.States[r] = rec.States[i]
			}
			m.Attempts = max(m.Attempts, m.States[r].Attempts)
			if u.domain.resting(u.lane) && !u.done {
				m.Rests[r] = u.domain.rests
			}
		}
		if !u.done && !e.held {
			at := u.domain.startOf(u)
			if next == 0 || at < next {
				next = at
			}
		}
	}
	if next != 0 {
		m.NextAttemptAt = q.wall(next)
	}
	return m, true, nil
}

// Summary returns what waits by domain, most messages first.
func (q *Queue) Summary() []DomainSummary {
	type sum struct {
		messages, recipients int
		oldest, next         int64  // next is 0 where nothing will be tried
		last                 *entry // counted; a message may have several units
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	sums := make(map[*domain]*sum, len(q.domains))
	for e := q.first; e != nil; e = e.next {
		for i := range e.units {
			u := &e.units[i]
			if u.done {
				continue
			}
			s := sums[u.domain]
			if s == nil {
				s = &sum{oldest: e.receivedAt}
				sums[u.domain] = s
			}
			if s.last != e {
				s.last = e
				s.messages++
			}
			s.recipients += int(u.recipients)
			s.oldest = min(s.oldest, e.receivedAt)
			if at := u.domain.startOf(u); !e.held && (s.next == 0 || at < s.next) {
				s.next = at
			}
		}
	}
	out := make([]DomainSummary, 0, len(sums))
	for d, s := range sums {
		row := DomainSummary{Domain: d.name, Messages: s.messages, Recipients: s.recipients,
			OldestAt: q.wall(s.oldest), Last: d.last}
		if s.next != 0 {
			row.NextAttemptAt = q.wall(s.next)
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b DomainSummary) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Domain, b.Domain))
	})
	return out
}

// Retry makes the selected messages due now and ends the rest of their
// domains; one of them goes first as a probe. Held ones stay held. It returns
// how many messages it touched.
func (q *Queue) Retry(ctx context.Context, f Filter) (int, error) {
	return q.each(ctx, f, "", "", func(e *entry, _ *Message) bool {
		if e.held {
			return false
		}
		q.dueNow(e)
		return true
	})
}

// dueNow makes all units of e due that are not at their end.
func (q *Queue) dueNow(e *entry) {
	now := q.clock()
	for i := range e.units {
		u := &e.units[i]
		if u.done {
			continue
		}
		q.unwait(u)
		u.due = now
		q.wait(u)
		u.domain.restUntil = min(u.domain.restUntil, now)
		q.place(u.domain, now)
	}
}

// Hold keeps the selected messages from being tried until Unhold, over
// restarts too. It returns how many messages it touched.
func (q *Queue) Hold(ctx context.Context, f Filter, reason string) (int, error) {
	return q.each(ctx, f, "held by the operator", reason, func(e *entry, _ *Message) bool {
		if e.held {
			return false
		}
		q.hold(e, reason)
		return true
	})
}

// Unhold releases the selected held messages and makes them due now. It returns
// how many messages it touched.
func (q *Queue) Unhold(ctx context.Context, f Filter) (int, error) {
	return q.each(ctx, f, "released by the operator", "", func(e *entry, _ *Message) bool {
		if !e.held {
			return false
		}
		e.held = false
		q.counts.Held--
		q.readableAgain(e)
		var b store.Batch
		if e.seq < q.lowWritten {
			b.Set(holdKey(e.seq), encode(holdRecord{Since: q.now().UTC(), Released: true}))
		} else {
			b.Delete(holdKey(e.seq))
		}
		q.write(&b)
		q.dueNow(e)
		return true
	})
}

// each calls fn, under the lock, for every selected message that is still in
// the queue, counts where it returns true, and waits until what fn changed is
// durable. The log says what happened to each of these ("": nothing) and why.
func (q *Queue) each(ctx context.Context, f Filter, what, reason string, fn func(*entry, *Message) bool) (int, error) {
	n := 0
	err := q.List(ctx, f, func(m Message) bool {
		q.mu.Lock()
		e := q.byID[m.ID]
		touched := e != nil && fn(e, &m)
		q.mu.Unlock()
		if !touched {
			return true
		}
		n++
		if what != "" {
			q.tell(&m, what, "", reason)
		}
		return true
	})
	return n, q.settled(ctx, err)
}

// recipientsALine is how many recipients a line of the log names: some readers of
// logs cut lines of more than 16 KiB.
const recipientsALine = 50

// tell logs what the operator did to a message, or to its recipients of one
// domain. All of these are named: no attempt may ever have named them.
func (q *Queue) tell(m *Message, what, domain, reason string) {
	var to []string
	for i, r := range m.Recipients {
		if m.States[i].State == Queued && (domain == "" || domain == r.Domain) {
			to = append(to, r.Address)
		}
	}
	args := []any{"queue_id", m.ID.String(), "from", m.From, "recipients", len(to)}
	if m.MessageID != "" {
		args = append(args, "message_id", m.MessageID)
	}
	if domain != "" {
		args = append(args, "domain", domain)
	}
	if reason != "" {
		args = append(args, "reason", reason)
	}
	for part := range slices.Chunk(to, recipientsALine) {
		q.log.Info(what, append(args, "to", part)...)
	}
}

// settled waits until what was submitted is durable. While the disk is full the
// changes are made and wait to be written; the error says so.
func (q *Queue) settled(ctx context.Context, err error) error {
	q.signal()
	if err != nil {
		return err
	}
	return q.commit(ctx, new(store.Batch))
}
