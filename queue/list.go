package queue

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// Filter selects messages; the zero Filter selects all. Several conditions
// must all hold. In From and To the case of the domain does not matter.
type Filter struct {
	IDs    []ID
	Domain string // of a recipient that has no end yet
	From   string // reverse-path, "<>" for the null sender
	To     string // a recipient's address
	State  State
	// OlderThan selects what has been in the queue for longer.
	OlderThan time.Duration
	// By is who asks for a change of the messages, for the log; it selects none.
	By string
}

// List calls yield for the selected messages, oldest first, until it returns
// false. Messages that come and go meanwhile may or may not be among them. IDs
// that are not in the queue are passed over.
func (q *Queue) List(ctx context.Context, f Filter, yield func(Message) bool) error {
	c := cursor{addresses: q.addresses.wanted(f)}
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

// cursor is the position of a listing.
type cursor struct {
	next *scheduler.Entry // the next message to look at; nil at the beginning
	seq  uint64           // its number, should it have left the queue by then
	end  bool

	domain []*scheduler.Entry // of the domain that is asked for; found once
	found  bool

	addresses uint64 // bits that the addresses of a message must have
}

// selectBatch returns up to n entries from c on that may match f as far as memory can
// tell, and advances c. It holds the lock for a short time only.
func (q *Queue) selectBatch(f Filter, c *cursor, n int) (batch []*scheduler.Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f.IDs != nil {
		for _, id := range f.IDs {
			if e := q.byID[id]; e != nil && q.mayMatchLocked(f, c, e) {
				batch = append(batch, e)
			}
		}
		slices.SortFunc(batch, bySeq)
		c.end = true
		return slices.Compact(batch)
	}
	if f.Domain != "" {
		return q.selectDomainLocked(f, c, n)
	}
	const looks = 20_000 // entries looked at under one lock
	e := c.next
	if e == nil || e.Gone {
		for e = q.scheduler.First(); e != nil && e.Seq < c.seq; e = e.Next() { //nolint:revive // the first that is not below
		}
	}
	for i := 0; e != nil && i < looks && len(batch) < n; i++ {
		if e.Accepted && q.mayMatchLocked(f, c, e) {
			batch = append(batch, e)
		}
		e = e.Next()
	}
	if c.next, c.end = e, e == nil; e != nil {
		c.seq = e.Seq
	}
	return batch
}

// selectDomainLocked is selectBatch for one domain: it looks only at the groups of that
// domain.
func (q *Queue) selectDomainLocked(f Filter, c *cursor, n int) (batch []*scheduler.Entry) {
	if !c.found {
		c.found = true
		if d := q.scheduler.Domain(f.Domain); d != nil {
			c.domain = make([]*scheduler.Entry, 0, d.Len())
			for g := range d.Groups() {
				c.domain = append(c.domain, g.Entry)
			}
		}
		slices.Reverse(c.domain) // the newest stood first, so little is left to be sorted
		slices.SortFunc(c.domain, bySeq)
		c.domain = slices.Compact(c.domain) // a message may have several groups there
	}
	for len(c.domain) > 0 && len(batch) < n {
		if e := c.domain[0]; !e.Gone && q.mayMatchLocked(f, c, e) {
			batch = append(batch, e)
		}
		c.domain = c.domain[1:]
	}
	c.end = len(c.domain) == 0
	return batch
}

func (q *Queue) mayMatchLocked(f Filter, c *cursor, e *scheduler.Entry) bool {
	if e.Addresses&c.addresses != c.addresses {
		return false
	}
	if f.Domain != "" && !hasLeft(e, f.Domain) {
		return false
	}
	if f.OlderThan > 0 && q.clock.now().Sub(e.ReceivedAt) <= f.OlderThan {
		return false
	}
	return f.State == "" || f.State == stateOf(e)
}

func (f Filter) matches(m *Message) bool {
	if f.From != "" && !sameAddress(f.From, m.From) && !(f.From == "<>" && m.From == "") {
		return false
	}
	return f.To == "" || slices.ContainsFunc(m.Recipients, func(r Recipient) bool { return sameAddress(f.To, r.Address) })
}

// sameAddress reports whether two addresses are the same. The case of the domain does not
// matter; what a local part means is decided by the domain's host.
func sameAddress(a, b string) bool {
	at := strings.LastIndexByte(a, '@')
	if at < 0 || at != strings.LastIndexByte(b, '@') {
		return a == b
	}
	return a[:at] == b[:at] && strings.EqualFold(a[at:], b[at:])
}

// stateOf is the state of a message that is in the queue.
func stateOf(e *scheduler.Entry) State {
	switch {
	case e.Held:
		return Held
	case e.Busy():
		return Active
	}
	return Queued
}

// hasLeft reports whether recipients of e in a domain have no end yet.
func hasLeft(e *scheduler.Entry, domain string) bool {
	for i := range e.Groups {
		if g := &e.Groups[i]; !g.State().Ended() && g.Domain.Name == domain {
			return true
		}
	}
	return false
}

func bySeq(a, b *scheduler.Entry) int { return cmp.Compare(a.Seq, b.Seq) }

// Show returns one message; the error wraps ErrNotFound.
func (q *Queue) Show(id ID) (Message, error) {
	e, err := q.find(id)
	if err != nil {
		return Message{}, err
	}
	m, ok, err := q.message(e)
	if err == nil && !ok {
		err = phrase.Errorf("%s: %w", id, ErrNotFound)
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
	return newBody(q, e.Seq, m.Chunks), nil
}

// Resolve returns the ID in the queue that s names: the whole of it or its
// beginning, in upper or lower case. The error wraps ErrNotFound where there is
// none, and ErrAmbiguous where the beginning fits several.
func (q *Queue) Resolve(s string) (ID, error) {
	s = strings.ToUpper(s)
	rest := ulid.EncodedSize - len(s)
	if s == "" || rest < 0 {
		return ID{}, phrase.Errorf("%q: %w", s, ErrNotFound)
	}
	low, err := ulid.ParseStrict(s + strings.Repeat("0", rest))
	if err != nil {
		return ID{}, phrase.Errorf("%q: %w", s, ErrNotFound)
	}
	high := ulid.MustParse(s + strings.Repeat("Z", rest))
	q.mu.Lock()
	defer q.mu.Unlock()
	if rest == 0 && q.byID[low] != nil {
		return low, nil
	}
	var found *scheduler.Entry
	for e := q.scheduler.First(); e != nil && rest > 0; e = e.Next() {
		if id := ID(e.ID); !e.Accepted || id.Compare(low) < 0 || id.Compare(high) > 0 {
			continue
		}
		if found != nil {
			return ID{}, phrase.Errorf("%q: %w", s, ErrAmbiguous)
		}
		found = e
	}
	if found == nil {
		return ID{}, phrase.Errorf("%q: %w", s, ErrNotFound)
	}
	return found.ID, nil
}

func (q *Queue) find(id ID) (*scheduler.Entry, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.byID[id]; e != nil {
		return e, nil
	}
	return nil, phrase.Errorf("%s: %w", id, ErrNotFound)
}

// message reads the whole state of e; ok is false if it has left the queue. The state is
// consistent: it is read again if an attempt or a group ended meanwhile.
func (q *Queue) message(e *scheduler.Entry) (m Message, ok bool, err error) {
	for {
		q.mu.Lock()
		before := e.Changes()
		q.mu.Unlock()
		m, ok, err = q.read(e)
		if err != nil || !ok || m.changes == before {
			return m, ok, err
		}
	}
}

// read reads the state of e once.
func (q *Queue) read(e *scheduler.Entry) (m Message, ok bool, err error) {
	records := make(map[int]groupRecord)
	m.records = records
	holdWritten := false
	err = q.store.Scan(messageKey(e.Seq), nil, func(k, v []byte) error {
		_, group, _ := parseMessageKey(k)
		switch group {
		case -1:
			ok = true
			return decode(v, &m.Envelope)
		case holdSuffix:
			err := decode(v, &m.held)
			holdWritten = !m.held.Released
			return err
		default:
			var r groupRecord
			err := decode(v, &r)
			records[group] = r
			return err
		}
	})
	if err != nil || !ok {
		return m, false, err
	}
	m.States = make([]RecipientState, len(m.Recipients))
	m.Waits = make([]Wait, len(m.Recipients))
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Gone {
		return m, false, nil
	}
	m.changes = e.Changes()
	m.State = stateOf(e)
	switch {
	case e.Held && !holdWritten && e.Busy():
		// Neither the results of the attempt nor the hold that they led to can be read
		// yet: the message is shown as it was before both.
		m.State = Active
	case e.Held:
		m.HeldFor, m.Unreadable = m.held.Reason, e.Unreadable
		if m.HeldFor == "" && e.Unreadable {
			m.HeldFor = unreadableReason // the record of the hold cannot be read yet
		}
	}
	if at, ok := q.scheduler.ExpiresAt(e); ok {
		m.ExpiresAt = q.clock.at(at)
	}
	for n, members := range split(m.Recipients) {
		g := &e.Groups[n]
		for i, r := range members {
			m.States[r].State = Queued
			if rec := records[n]; len(rec.States) == len(members) {
				m.States[r] = rec.States[i]
			}
			m.Attempts = max(m.Attempts, m.States[r].Attempts)
			if m.States[r].State == Queued && !g.State().Ended() {
				m.Waits[r] = q.waitLocked(g, &m.States[r], records[n].LastAttempt)
				if next := m.Waits[r].NextAttemptAt; m.NextAttemptAt.IsZero() || !next.IsZero() && next.Before(m.NextAttemptAt) {
					m.NextAttemptAt = next
				}
			}
		}
	}
	return m, true, nil
}

// waitLocked returns how a recipient of g waits that has no end yet.
func (q *Queue) waitLocked(g *scheduler.Group, s *RecipientState, lastAttempt time.Time) (w Wait) {
	if s.Attempts > 0 {
		w.LastAttemptAt = lastAttempt
	}
	if at := g.StartsAt(); !g.Entry.Held && at != scheduler.Forever {
		w.NextAttemptAt = q.clock.at(at)
	}
	why, since := g.Backoff()
	if why != (Reason{}) {
		w.Backoff, w.BackoffSince = why, q.clock.at(since)
	}
	return w
}

// Summary returns what waits by domain, most messages first.
func (q *Queue) Summary() []DomainSummary {
	type sum struct {
		messages, recipients int
		oldest, next         scheduler.Time   // next is 0 where nothing will be tried
		last                 *scheduler.Entry // counted; a message may have several groups
		ages                 Ages
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.now()
	sums := make(map[*scheduler.Domain]*sum, q.scheduler.Domains())
	for e := q.scheduler.First(); e != nil; e = e.Next() {
		for i := range e.Groups {
			g := &e.Groups[i]
			if g.State().Ended() {
				continue
			}
			s := sums[g.Domain]
			if s == nil {
				s = &sum{oldest: e.ReceivedAt}
				sums[g.Domain] = s
			}
			if s.last != e {
				s.last = e
				s.messages++
			}
			s.recipients += int(g.Recipients)
			s.ages.Add(now.Sub(e.ReceivedAt), int(g.Recipients))
			s.oldest = min(s.oldest, e.ReceivedAt)
			if at := g.StartsAt(); !e.Held && at != scheduler.Forever && (s.next == 0 || at < s.next) {
				s.next = at
			}
		}
	}
	out := make([]DomainSummary, 0, len(sums))
	for d, s := range sums {
		row := DomainSummary{Domain: d.Name, Messages: s.messages, Recipients: s.recipients,
			OldestAt: q.clock.at(s.oldest), Ages: s.ages, Last: d.Last}
		if s.next != 0 {
			row.NextAttemptAt = q.clock.at(s.next)
		}
		if since, failing := d.FailingSince(); failing {
			row.FailingSince = q.clock.at(since)
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b DomainSummary) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Domain, b.Domain))
	})
	return out
}
