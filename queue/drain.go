package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

const (
	// drainMessages and drainOctets bound what is handed over in one request; a larger
	// message goes alone.
	drainMessages = 100
	drainOctets   = 4 << 20
	// drainFirstWait and drainLastWait are the waits between attempts after a failure.
	drainFirstWait = time.Second
	drainLastWait  = 30 * time.Second
	// drainPoll is how often Drain looks whether deliveries under way have ended.
	drainPoll = 200 * time.Millisecond
)

// ErrDrainRefused is wrapped by errors of DrainOptions.Send that no later attempt mends.
var ErrDrainRefused = phrase.Errorf("the other relay refuses")

// ErrDraining is returned if another drain is running.
var ErrDraining = phrase.Errorf("another drain is running")

// Taken is the answer of another relay to a part of a drain.
type Taken struct {
	// IDs are the messages that it has, durable: taken now or before.
	IDs []string `json:"ids"`
	// Error is why it did not take the others now; "": it will not take them later either.
	Error string `json:"error,omitempty"`
	// Problems are what is wrong with messages that it did not take.
	Problems []string `json:"problems,omitempty"`
}

// DrainOptions configures Drain. All fields are required.
type DrainOptions struct {
	// To is the other relay, for the log.
	To string
	// Send hands over an export file and returns the answer. The other relay takes
	// no message twice in a run, which ends with Forget.
	Send   func(ctx context.Context, run string, export io.Reader) (Taken, error)
	Forget func(ctx context.Context, run string) error
	// Progress is told how many messages were handed over, and why the last attempt failed
	// (nil: it did not).
	Progress func(handed int, err error)
}

// drain is one run of Drain.
type drain struct {
	q       *Queue
	o       DrainOptions
	run     string
	handed  int
	skipped map[ID]string // that the other relay does not take, or that cannot be read
}

// handover has the messages that a drain is about to hand to another relay.
type handover struct {
	// reserved are those that it keeps from being tried here, by a hold in memory only.
	reserved map[*scheduler.Entry]bool
	// sending are those of the request under way: the other relay may have them already.
	sending map[*scheduler.Entry]bool
}

func newHandover() handover {
	return handover{reserved: make(map[*scheduler.Entry]bool), sending: make(map[*scheduler.Entry]bool)}
}

// Drain hands all messages to another relay, with their IDs, attempts, due times and holds,
// while mail is accepted and delivered. A message is removed here once the other relay has
// said that it has it durably. Drain tries until ctx ends, and returns how many messages
// were handed over. After it was cut off, also by the end of the process, the next Drain to
// the same relay goes on in the same run, in which nothing is taken twice.
func (q *Queue) Drain(ctx context.Context, o DrainOptions) (handed int, err error) {
	if !q.draining.CompareAndSwap(false, true) {
		return 0, ErrDraining
	}
	defer q.draining.Store(false)
	d := &drain{q: q, o: o, skipped: make(map[ID]string)}
	if d.run, err = q.drainRun(ctx, o.To); err != nil {
		return 0, err
	}
	err = d.all(ctx)
	d.giveBack()
	if err = q.waitDurable(ctx, err); err != nil {
		return d.handed, err
	}
	if err := store.Remove(ctx, q.store, keyDrain); err != nil {
		return d.handed, err
	}
	if err := o.Forget(ctx, d.run); err != nil {
		q.log.Warn("the other relay could not be told that the drain has ended; it forgets what it has taken by itself, in a week", "to", o.To, "error", err)
	}
	for id, why := range d.skipped {
		return d.handed, fmt.Errorf("%d messages stay here; %s, for example: %s", len(d.skipped), id, why)
	}
	return d.handed, nil
}

// drainRecord is the run of a drain that was not finished.
type drainRecord struct {
	To  string `cbor:"1,keyasint"`
	Run string `cbor:"2,keyasint"`
}

var keyDrain = append(append([]byte{}, store.PrefixQueue...), "drain"...)

// drainRun returns the name of the run: that of an earlier drain to the same relay, if it was
// cut off.
func (q *Queue) drainRun(ctx context.Context, to string) (string, error) {
	var rec drainRecord
	value, err := store.Get(q.store, keyDrain)
	if err != nil {
		return "", err
	}
	if value != nil && decode(value, &rec) == nil && rec.To == to && rec.Run != "" {
		return rec.Run, nil
	}
	var name [16]byte
	_, _ = rand.Read(name[:]) // never fails
	rec = drainRecord{To: to, Run: hex.EncodeToString(name[:])}
	return rec.Run, store.Put(ctx, q.store, keyDrain, encode(rec))
}

// all hands over until nothing is left but what was skipped.
func (d *drain) all(ctx context.Context) error {
	wait := drainFirstWait
	for {
		batch := d.reserve()
		if len(batch) == 0 {
			if d.left() == 0 {
				return ctx.Err()
			}
			if err := pause(ctx, drainPoll); err != nil { // the others are being delivered
				return err
			}
			continue
		}
		err := d.handOver(ctx, batch)
		d.answered()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		d.o.Progress(d.handed, err)
		switch {
		case errors.Is(err, ErrDrainRefused):
			return err
		case err != nil:
			if err := pause(ctx, wait); err != nil {
				return err
			}
			wait = min(2*wait, drainLastWait)
		default:
			wait = drainFirstWait
		}
	}
}

// left is the number of messages that are here and are not skipped.
func (d *drain) left() int {
	for id := range d.skipped {
		if !d.q.has(id) {
			delete(d.skipped, id)
		}
	}
	return d.q.Counts().Messages - len(d.skipped)
}

// canceled reports whether the operator has ended a part of a message, which is not written
// yet.
func canceled(e *scheduler.Entry) bool {
	for i := range e.Groups {
		if e.Groups[i].State() == scheduler.Canceled {
			return true
		}
	}
	return false
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// reserve keeps the next messages from being tried here, in memory only, and returns those
// of the next request. Those that were reserved and not handed over come first.
func (d *drain) reserve() (batch []*scheduler.Entry) {
	q := d.q
	q.mu.Lock()
	defer q.mu.Unlock()
	add := func(e *scheduler.Entry) {
		batch = append(batch, e)
		q.handover.sending[e] = true
	}
	for e := range q.handover.reserved {
		switch {
		case e.Gone:
			delete(q.handover.reserved, e) // the operator has removed it
		case len(batch) < drainMessages && !canceled(e):
			add(e)
		}
	}
	for e := q.scheduler.First(); e != nil && len(batch) < drainMessages; e = e.Next() {
		if !e.Accepted || q.handover.reserved[e] || e.Busy() || canceled(e) {
			continue
		}
		if _, skip := d.skipped[ID(e.ID)]; skip {
			continue
		}
		if e.Unreadable {
			d.skipped[ID(e.ID)] = unreadableReason
			continue
		}
		if !e.Held {
			q.permitted(e, q.scheduler.Hold(e, q.clock.now()))
			q.handover.reserved[e] = true
		}
		add(e)
	}
	return batch
}

// answered ends a request: what it had can be changed again.
func (d *drain) answered() {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	clear(d.q.handover.sending)
	d.q.cancellations.wake.raise() // some may have waited for the answer
}

// giveBack lets what was reserved and not handed over be tried here again, when it was due.
func (d *drain) giveBack() {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	for e := range d.q.handover.reserved {
		d.q.permitted(e, d.q.scheduler.EndHold(e, d.q.clock.now()))
	}
	clear(d.q.handover.reserved)
	d.q.wake.raise()
}

// handOver sends messages of a batch and removes those that the other relay has.
func (d *drain) handOver(ctx context.Context, batch []*scheduler.Entry) error {
	r, w := io.Pipe()
	sent := make(chan map[ID]Message, 1)
	go func() {
		messages, err := d.write(w, batch)
		sent <- messages
		_ = w.CloseWithError(err)
	}()
	answer, err := d.o.Send(ctx, d.run, r)
	_ = r.Close()
	messages := <-sent
	if err != nil {
		return err
	}
	has := make(map[string]bool, len(answer.IDs))
	for _, id := range answer.IDs {
		has[id] = true
	}
	for id, m := range messages {
		if has[id.String()] {
			d.remove(&m)
		} else if answer.Error == "" {
			d.skip(id, fmt.Sprintf("the other relay does not take it: %v", answer.Problems))
		}
	}
	if answer.Error != "" {
		return fmt.Errorf("the other relay: %s", answer.Error)
	}
	return nil
}

// write writes messages of a batch as an export, and returns those that are whole in it.
func (d *drain) write(w io.Writer, batch []*scheduler.Entry) (map[ID]Message, error) {
	sent := make(map[ID]Message)
	x, err := newExportWriter(w)
	var t Transfer
	for _, e := range batch {
		if err != nil || t.Octets > drainOctets {
			break
		}
		before := t
		if err = d.q.exportOne(e, x, &t); err != nil {
			break
		}
		if t.Unreadable > before.Unreadable {
			d.skip(ID(e.ID), t.Problems[len(t.Problems)-1])
		}
		if t.Messages == before.Messages {
			continue
		}
		m, ok, e := d.q.message(e)
		if e == nil && ok {
			sent[m.ID] = m
		}
	}
	if err == nil {
		err = x.record(recordLast, encode(exportedLast{Messages: t.Messages, Octets: t.Octets, Unreadable: t.Unreadable}))
	}
	if err == nil {
		err = x.w.Flush()
	}
	return sent, err
}

func (d *drain) skip(id ID, why string) {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	d.skipped[id] = why
	if e := d.q.byID[id]; e != nil && d.q.handover.reserved[e] {
		delete(d.q.handover.reserved, e)
		d.q.permitted(e, d.q.scheduler.EndHold(e, d.q.clock.now()))
	}
}

// remove deletes a message that the other relay has.
func (d *drain) remove(m *Message) {
	q := d.q
	q.mu.Lock()
	e := q.byID[m.ID]
	if e != nil {
		var b store.Batch
		deleteRecords(e, m.Chunks, &b)
		delete(q.handover.reserved, e)
		q.forgetLocked(e)
		q.write(&b)
		d.handed++
	}
	q.mu.Unlock()
	if e != nil {
		q.logAction(&Action{Message: m, What: deedHandedOver, Reason: d.o.To}, "")
	}
}
