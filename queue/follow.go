package queue

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// follower brings into memory what others change in the store. With Badger
// there are no others.
type follower struct {
	mu   sync.Mutex
	seqs map[uint64]bool
	wake chan struct{} // capacity 1
}

func newFollower() *follower {
	return &follower{seqs: make(map[uint64]bool), wake: make(chan struct{}, 1)}
}

// changed takes note of a key of a message.
func (f *follower) changed(key []byte) {
	seq, _, ok := parseMessageKey(key)
	if !ok {
		return
	}
	f.keep(seq)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *follower) keep(seqs ...uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, seq := range seqs {
		f.seqs[seq] = true
	}
}

func (f *follower) take() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	seqs := slices.Sorted(maps.Keys(f.seqs))
	clear(f.seqs)
	return seqs
}

// followAgain is when a message is looked at again that could not be read, or
// changed here meanwhile.
const followAgain = 100 * time.Millisecond

// follow reads again what was changed, until ctx ends.
func (q *Queue) follow(ctx context.Context) {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.follower.wake:
		case <-again:
		}
		again = nil
		if !q.reread(ctx, q.follower.take()) {
			again = time.After(followAgain)
		}
		q.signal()
	}
}

// view is what was known of a message before the store was read.
type view struct {
	entry   *entry // nil: nothing
	changes int
	held    bool
}

// reread brings messages to what the store says of them; what changes here
// meanwhile, or cannot be read now, is kept for another time.
func (q *Queue) reread(ctx context.Context, seqs []uint64) (all bool) {
	known := q.views(seqs)
	// What was done here before is in the store after this.
	if err := q.commit(ctx, new(store.Batch)); err != nil {
		q.log.Warn("messages that were changed elsewhere cannot be read yet", "messages", len(seqs), "error", err)
		q.follower.keep(seqs...)
		return false
	}
	all = true
	for _, seq := range seqs {
		same, err := q.rereadOne(seq, known[seq])
		if err != nil {
			q.log.Error("a message that was changed elsewhere cannot be read; it stays as it was known here", "number", seq, "error", err)
		} else if !same {
			q.follower.keep(seq)
			all = false
		}
	}
	return all
}

// views finds the entries of seqs, which ascend, in one pass.
func (q *Queue) views(seqs []uint64) map[uint64]view {
	found := make(map[uint64]view, len(seqs))
	for _, seq := range seqs {
		found[seq] = view{}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for e := q.first; e != nil && len(seqs) > 0 && e.seq <= seqs[len(seqs)-1]; e = e.next {
		if _, ok := found[e.seq]; ok {
			found[e.seq] = view{entry: e, changes: e.changes(), held: e.held}
		}
	}
	return found
}

// rereadOne brings one message to what the store says of it now; same is false
// where it was changed here since known was taken.
func (q *Queue) rereadOne(seq uint64, known view) (same bool, err error) {
	var env *Envelope
	held := false
	records := make(map[int]unitRecord)
	err = q.store.Scan(messageKey(seq), nil, func(k, v []byte) error {
		switch _, n, _ := parseMessageKey(k); n {
		case -1:
			env = new(Envelope)
			return decode(v, env)
		case holdSuffix:
			var hold holdRecord
			held = decode(v, &hold) != nil || !hold.Released
			return nil //nolint:nilerr // a damaged record holds, too
		default:
			var rec unitRecord
			err := decode(v, &rec)
			records[n] = rec
			return err
		}
	})
	if err != nil {
		return false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	e := known.entry
	switch {
	case e == nil && (env == nil || q.byID[env.ID] != nil): // it was never here, or has come in here
		return true, nil
	case e == nil:
		e = &entry{seq: seq}
		q.insert(e)
		q.nextSeq = max(q.nextSeq, seq+1)
		q.admit(e, env)
	case e.gone || !e.accepted:
		return true, nil
	case e.changes() != known.changes || e.held != known.held:
		return false, nil
	case env == nil:
		q.drop(e)
		return true, nil
	}
	q.refresh(e, env, records, held)
	return true, nil
}

// drop forgets a message that another has ended. A delivery of it that is under
// way ends as it may.
func (q *Queue) drop(e *entry) {
	now := q.clock()
	for i := range e.units {
		u := &e.units[i]
		if !u.done {
			q.conclude(u, now)
		}
	}
	q.forget(e)
}

// conclude ends u, whatever became of its recipients.
func (q *Queue) conclude(u *unit, now int64) {
	q.unwait(u)
	u.done = true
	u.msg.left--
	u.domain.leave(u)
	q.counts.Recipients -= int(u.recipients)
	u.recipients = 0
	q.place(u.domain, now)
}

// refresh brings the units and the hold of e to what was read. Units that are
// claimed here stay as they are: their results compare before they are written.
func (q *Queue) refresh(e *entry, env *Envelope, records map[int]unitRecord, held bool) {
	r := rebuilder{q: q, now: q.clock(), wall: q.now(), cur: e}
	if e.held != held {
		e.held = held
		e.stateKept = true
		if held {
			q.counts.Held++
		} else {
			q.counts.Held--
		}
	}
	for n, group := range split(env.Recipients) {
		u := &e.units[n]
		q.unwait(u)
		rec, tried := records[n]
		e.stateKept = e.stateKept || tried
		if !u.active && (rec.Attempts != int(u.attempts) || rec.Done != u.done) {
			q.renew(u, len(group))
			if tried {
				r.unit(u, rec)
			}
		}
		q.wait(u)
		q.place(u.domain, r.now)
	}
}

// renew makes u as it was when its message was accepted.
func (q *Queue) renew(u *unit, recipients int) {
	if u.done {
		u.done = false
		u.msg.left++
		q.domain(u.domain.name).join(u) // it may have left the memory
	}
	q.counts.Recipients += recipients - int(u.recipients)
	u.recipients = int32(recipients)
	u.attempts = 0
	u.due = u.msg.receivedAt
	u.told = false
	q.watch(u.msg)
}

// insert links e where its number belongs.
func (q *Queue) insert(e *entry) {
	at := q.last
	for at != nil && at.seq > e.seq {
		at = at.prev
	}
	if at == q.last {
		q.link(e)
		return
	}
	next := q.first
	if at != nil {
		next = at.next
		at.next = e
	} else {
		q.first = e
	}
	e.prev, e.next = at, next
	next.prev = e
}

// lost is called when a result was not written because another has changed the
// message: what the store says is read.
func (q *Queue) lost(u *unit) {
	q.log.Warn("a message was changed elsewhere while it was delivered here; the result is not written",
		"queue_id", u.msg.id.String(), "domain", u.domain.name)
	q.follower.changed(messageKey(u.msg.seq))
}

var _ Store = (*store.Store)(nil)
