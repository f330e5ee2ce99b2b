package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Work is a claimed unit: the recipients of one domain that have no end yet.
// Every Work ends with one call of Finish (Told, where it only Waits) or Release, or
// with a Load that fails.
type Work struct {
	// Envelope, Recipients and States are there after Load. Of the message's
	// recipients, Envelope holds only those that are to be tried.
	Envelope Envelope
	// Domain is the recipients' domain.
	Domain string
	// Recipients are the indexes of Envelope.Recipients among all of the message.
	Recipients []int
	// States is where each of them stands, by position in Recipients.
	States []RecipientState
	// Attempts is the number of attempts made before this one.
	Attempts int
	// Age is how long the message has been in the queue, by elapsed time where
	// it is known.
	Age time.Duration
	// Expired says that the message is older than Schedule.Expire.
	Expired bool
	// Rests is how many times in a row the domain had rested when this was claimed.
	Rests int
	// Waits, unless it is zero, is why the domain rests. This is no attempt then: the
	// sender is to be told that the message is late, and Told takes the place of
	// Finish.
	Waits Reason

	q        *Queue
	unit     *unit
	failed   error // of reading its body
	recorded bool  // there may be a record of it
	loaded   bool
	record   unitRecord // as it was read; States are complete, with those at their end
	pos      []int      // position of Recipients in record.States
}

// Claim waits until something is due and claims it, from memory alone: whoever
// works on it calls Load first. Nothing is claimed once ctx has ended; the error
// is ctx's.
func (q *Queue) Claim(ctx context.Context) (*Work, error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if ctx.Err() != nil {
			q.signal() // for the next one: the wake may have been meant for us
			return nil, context.Cause(ctx)
		}
		q.mu.Lock()
		now := q.clock()
		w, wakeAt := q.claimNext(now)
		q.mu.Unlock()
		if w != nil {
			q.signal() // there may be more, for another one who waits
			return w, nil
		}
		wait := time.Hour
		if wakeAt >= 0 {
			wait = time.Duration(max(wakeAt-now, 0))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// ClaimFor claims and loads the next unit of a domain if one is due now, for a session
// that is open and could carry it. It returns nil where there is none.
func (q *Queue) ClaimFor(domain string) *Work {
	for {
		q.mu.Lock()
		var w *Work
		if d := q.domains[domain]; d != nil && !q.paused && !q.atLimit() && !(q.reserved() && !q.proven.holds(domain, q.clock())) && !q.store.Stalled() {
			w = q.claimIn(d, q.clock())
		}
		q.mu.Unlock()
		if w == nil || w.Load() {
			return w
		}
	}
}

// Load reads what the store has of w; it may take as long as a commit. A message
// that cannot be read is held and logged, never dropped, and false is returned:
// the claim is over then.
func (w *Work) Load() bool {
	if w.loaded {
		return true
	}
	q := w.q
	err := w.read()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		w.loaded = true
		return true
	}
	u := w.unit
	u.domain.active--
	q.free(u)
	if !u.msg.gone {
		q.holdUnreadable(u.msg, fmt.Errorf("its record: %w", err))
	}
	q.place(u.domain, q.clock())
	q.signal() // there is room for another claim
	return false
}

// read reads what the store has of the unit. All that was written of it is
// there: a unit is not claimable before the commit of its last attempt.
func (w *Work) read() error {
	q, u := w.q, w.unit
	found := false
	err := q.store.View(messageKey(u.msg.seq), func(v []byte) error {
		found = true
		return decode(v, &w.Envelope)
	})
	if err == nil && !found {
		err = errors.New("the envelope is not there")
	}
	if err != nil {
		return err
	}
	group := split(w.Envelope.Recipients)[u.number]
	rec := &w.record
	if w.recorded {
		if err := q.store.View(unitKey(u.msg.seq, int(u.number)), func(v []byte) error { return decode(v, rec) }); err != nil {
			return err
		}
	}
	if len(rec.States) != len(group) {
		rec.States = make([]RecipientState, len(group))
		for i := range rec.States {
			rec.States[i].State = Queued
		}
	}
	all := w.Envelope.Recipients
	w.Envelope.Recipients = nil // of others, hundreds of workers would hold a thousand each
	for i, r := range group {
		if rec.States[i].State == Queued {
			w.Recipients = append(w.Recipients, r)
			w.Envelope.Recipients = append(w.Envelope.Recipients, all[r])
			w.States = append(w.States, rec.States[i])
			w.pos = append(w.pos, i)
		}
	}
	return nil
}

// Sending notes that the content of w is about to go out: from here on it may have
// been delivered, whatever becomes of this process.
func (w *Work) Sending() {
	q := w.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if u := w.unit; !u.sending {
		u.sending = true
		q.mark()
	}
}

// mark writes down which units' content is being sent. It rides with the next
// commit and nobody waits for it: after a crash these are the units that may have
// been delivered already. The number of the attempt tells whether its result
// was written after all.
func (q *Queue) mark() {
	if q.markPending {
		return
	}
	q.markPending = true
	var b store.Batch
	b.Unhurried()
	b.Update(keyInFlight, func([]byte) []byte {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.markPending = false
		return q.encodeInFlight()
	})
	q.write(&b)
}

func (q *Queue) encodeInFlight() []byte {
	flights := make([]flight, 0, len(q.inFlight))
	for u, attempts := range q.inFlight {
		if u.sending {
			flights = append(flights, flight{Seq: u.msg.seq, Unit: u.number, Attempts: attempts})
		}
	}
	return encode(flights)
}

// flight names a unit whose content was being sent.
type flight struct {
	_        struct{} `cbor:",toarray"`
	Seq      uint64
	Unit     uint16
	Attempts uint16 // made before
}

// Body returns a reader of the message. It reads one chunk at a time and
// implements io.WriterTo.
func (w *Work) Body() io.Reader {
	b := newBody(w.q, w.unit.msg.seq, w.Envelope.Chunks)
	b.failed = &w.failed
	return b
}

// Unreadable is why a reader of Body could not read from the store, nil where it
// could, or where the message was removed meanwhile.
func (w *Work) Unreadable() error {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if w.unit.msg.gone {
		return nil
	}
	return w.failed
}

type body struct {
	q      *Queue
	seq    uint64
	chunks int
	next   int
	failed *error // if not nil, where an error of the store is noted
	mem    []byte // of the present chunk
	buf    []byte // what is left of it
}

func newBody(q *Queue, seq uint64, chunks int) *body {
	return &body{q: q, seq: seq, chunks: chunks}
}

// ErrBodyGone says that a body was removed while it was read.
var ErrBodyGone = errors.New("the message was removed")

// load reads the next chunk. It copies: the store's own memory must not be held
// while a slow host takes it.
func (b *body) load() error {
	found := false
	if b.mem == nil {
		b.mem = b.q.buffers.get()
	}
	err := b.q.store.View(bodyKey(b.seq, b.next), func(v []byte) error {
		found = true
		b.mem = append(b.mem[:0], v...)
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: chunk %d of its body is not there", ErrBodyGone, b.next)
	}
	b.next++
	b.buf = b.mem
	if err != nil {
		b.buf = nil // nothing of the chunk before it
		if b.failed != nil {
			*b.failed = err
		}
	}
	return err
}

func (b *body) Read(p []byte) (int, error) {
	for len(b.buf) == 0 {
		if b.next == b.chunks {
			b.end()
			return 0, io.EOF
		}
		if err := b.load(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf)
	b.buf = b.buf[n:]
	return n, nil
}

// end gives the memory back once all was read.
func (b *body) end() {
	b.q.buffers.put(b.mem)
	b.mem, b.buf = nil, nil
}

func (b *body) WriteTo(w io.Writer) (total int64, err error) {
	for {
		n, err := w.Write(b.buf)
		total += int64(n)
		b.buf = nil
		if err != nil {
			return total, err
		}
		if b.next == b.chunks {
			b.end()
			return total, nil
		}
		if err := b.load(); err != nil {
			return total, err
		}
	}
}
