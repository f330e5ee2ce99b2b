package queue

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

const (
	// TrashTime is how long removed messages can be restored.
	TrashTime = 24 * time.Hour
	// maxTrash bounds the messages in the trash: each takes some memory.
	maxTrash = 100_000
	// trashEvery is how often the trash is looked through for what is to go.
	trashEvery = time.Minute
	// unreadableTime is how far in the future a record that cannot be read seems to be
	// removed.
	unreadableTime = 100 * 365 * 24 * time.Hour
)

// ErrNotInTrash means that the trash does not hold a message.
var ErrNotInTrash = phrase.Errorf("is not in the trash")

// Trashed is a message, or a part of one, that the operator has removed and can
// restore.
type Trashed struct {
	// Envelope has the recipients that were removed and no others.
	Envelope
	States    []RecipientState // by index of Recipients
	HeldFor   string           // why it was held, "" where it was not
	RemovedAt time.Time
	// Active reports whether a delivery, or its handing over to another relay, was under
	// way when it was removed: it may have been delivered.
	Active bool

	seq uint64
}

// ExpiresAt is when it is deleted for good, at the latest.
func (t *Trashed) ExpiresAt() time.Time { return t.RemovedAt.Add(TrashTime) }

// Keys: d seq(8) is a trashRecord; the body stays at, or was copied to, b seq n.
func trashKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), store.PrefixTrash...), seq)
}

type trashRecord struct {
	Envelope  Envelope         `cbor:"1,keyasint"`
	States    []RecipientState `cbor:"2,keyasint"`
	HeldFor   string           `cbor:"3,keyasint,omitempty"`
	RemovedAt time.Time        `cbor:"4,keyasint"`
	Active    bool             `cbor:"5,keyasint,omitempty"`
}

// trash is what memory holds of removed messages. An item is added after the batch that
// writes it was submitted, so that the batch that deletes it comes later.
type trash struct {
	limit int64 // octets of bodies; 0: nothing is kept

	mu    sync.Mutex
	items []trashItem // by the time of their removal
	size  int64
}

type trashItem struct {
	seq       uint64
	id        ID
	size      int64
	chunks    int
	removedAt time.Time
}

// takes reports whether there is room for a body of size octets.
func (t *trash) takes(size int64) bool { return size <= t.limit && t.limit > 0 }

// add adds an item; nil: nothing.
func (t *trash) add(i *trashItem) {
	if i == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items = append(t.items, *i)
	t.size += i.size
}

// putBack adds an item again that was removed.
func (t *trash) putBack(i trashItem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items = slices.Insert(t.items, 0, i)
	t.size += i.size
}

// expire removes and returns the items of messages that were removed before a time, those
// that exceed the bounds, and, if all is true, every item.
func (t *trash) expire(before time.Time, all bool) []trashItem {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for size := t.size; n < len(t.items); n++ {
		over := size > t.limit || len(t.items)-n > maxTrash
		if !over && !all && !t.items[n].removedAt.Before(before) {
			break
		}
		size -= t.items[n].size
	}
	out := slices.Clone(t.items[:n])
	t.items = slices.Delete(t.items, 0, n)
	for _, i := range out {
		t.size -= i.size
	}
	return out
}

// remove removes one item and reports whether it was there.
func (t *trash) remove(seq uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := slices.IndexFunc(t.items, func(i trashItem) bool { return i.seq == seq })
	if n < 0 {
		return false
	}
	t.size -= t.items[n].size
	t.items = slices.Delete(t.items, n, n+1)
	return true
}

// all returns every item.
func (t *trash) all() []trashItem {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.items)
}

// sort brings the items into the order of their removal.
func (t *trash) sort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(t.items, func(a, b trashItem) int { return a.removedAt.Compare(b.removedAt) })
}

// addTrashed adds the record of a removed message to b; its body is that of seq. The
// caller adds the item to the trash after it has submitted b.
func (q *Queue) addTrashed(m *Message, seq uint64, chunks int, active bool, b *store.Batch) *trashItem {
	rec := trashRecord{Envelope: m.Envelope, States: m.States, HeldFor: m.HeldFor, RemovedAt: q.clock.utc(), Active: active}
	rec.Envelope.Recipients, rec.Envelope.Chunks = m.Recipients, chunks
	b.Set(trashKey(seq), encode(rec))
	return &trashItem{seq: seq, id: m.ID, size: m.Size, chunks: chunks, removedAt: rec.RemovedAt}
}

// copyBody copies the body of e, for the trash, while other recipients go on
// needing it. nil: it is not kept, and the log says why.
func (q *Queue) copyBody(e *scheduler.Entry, m *Message) *Incoming {
	if !q.trash.takes(m.Size) {
		return nil
	}
	in, err := q.Begin()
	if err == nil {
		if _, err = io.Copy(in, newBody(q, e.Seq, m.Chunks)); err == nil {
			in.slots <- struct{}{} // those on their way are written
			err = in.failure()
		}
		if err == nil {
			return in
		}
		in.Abort()
	}
	q.log.Warn("a removed message is not kept in the trash", "queue_id", m.ID.String(), "error", err)
	return nil
}

// sweepTrash deletes what has been in the trash for long enough, or has no room,
// until ctx ends.
func (q *Queue) sweepTrash(ctx context.Context) {
	t := time.NewTicker(trashEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			q.emptyTrash(q.clock.wall().Add(-TrashTime))
			if err := q.forgetTaken(ctx, keyTaken, q.clock.wall().Add(-takenTime)); err != nil && ctx.Err() == nil {
				q.log.Error("what was taken from other relays cannot be read", "error", err)
			}
		}
	}
}

// emptyTrash deletes what was removed before a time, what is over the bounds, and
// everything where the disk is full.
func (q *Queue) emptyTrash(before time.Time) int {
	noRoom := q.store.CheckSpace(0) != nil
	gone := q.trash.expire(before, noRoom)
	for part := range slices.Chunk(gone, 64) {
		var b store.Batch
		for _, i := range part {
			b.Delete(trashKey(i.seq))
			deleteBody(i.seq, i.chunks, &b)
		}
		q.write(&b)
	}
	if noRoom && len(gone) > 0 {
		q.log.Warn("the trash was emptied: the disk is full", "messages", len(gone))
	}
	return len(gone)
}

// EmptyTrash deletes all that is in the trash and can be read, and returns how many
// messages that were.
func (q *Queue) EmptyTrash(ctx context.Context) (int, error) {
	n := q.emptyTrash(q.clock.wall().Add(unreadableTime / 2)) // also what was removed while the clock was ahead
	return n, store.Commit(ctx, q.store, new(store.Batch))
}

// Trash calls yield with what the operator has removed, the oldest removal first,
// until it returns false.
func (q *Queue) Trash(ctx context.Context, yield func(Trashed) bool) error {
	if err := store.Commit(ctx, q.store, new(store.Batch)); err != nil { // what was submitted can be read then
		return err
	}
	for _, i := range q.trash.all() {
		t, ok, err := q.trashed(i.seq)
		if err != nil {
			q.log.Error("a record of the trash cannot be read", "queue_id", i.id.String(), "error", err)
		}
		if ok && err == nil && !yield(t) {
			return nil
		}
	}
	return ctx.Err()
}

func (q *Queue) trashed(seq uint64) (t Trashed, ok bool, err error) {
	err = q.store.View(trashKey(seq), func(v []byte) error {
		var rec trashRecord
		ok = true
		err := decode(v, &rec)
		t = Trashed{Envelope: rec.Envelope, States: rec.States, HeldFor: rec.HeldFor, RemovedAt: rec.RemovedAt, Active: rec.Active, seq: seq}
		return err
	})
	return t, ok, err
}

// Restore puts a message of the trash back into the queue, due now, or held where
// it was held. name is its ID or the beginning of it; a message that was removed
// in parts comes back in as many messages. What was removed before since stays in
// the trash (zero: nothing). It returns the IDs that they have now:
// their own, or a new one where that is in the queue. The error wraps
// ErrNotInTrash or ErrAmbiguous.
func (q *Queue) Restore(ctx context.Context, name string, since time.Time) ([]ID, error) {
	name = strings.ToUpper(name)
	var found []trashItem
	for _, i := range q.trash.all() {
		if name != "" && strings.HasPrefix(i.id.String(), name) && !i.removedAt.Before(since) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 0:
		return nil, phrase.Errorf("%q %w", name, ErrNotInTrash)
	case slices.ContainsFunc(found, func(i trashItem) bool { return i.id != found[0].id }):
		return nil, phrase.Errorf("%q: %w", name, ErrAmbiguous)
	}
	var ids []ID
	for _, i := range found {
		id, err := q.restore(ctx, i)
		if err != nil {
			return ids, fmt.Errorf("restore %s: %w", i.id, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// restore puts one message back, in one commit with its leaving of the trash.
func (q *Queue) restore(ctx context.Context, i trashItem) (ID, error) {
	t, ok, err := q.trashed(i.seq)
	if err != nil || !ok {
		return ID{}, cmp.Or(err, ErrNotInTrash)
	}
	in, err := q.Begin()
	if err != nil {
		return ID{}, err
	}
	if _, err = io.Copy(in, newBody(q, i.seq, i.chunks)); err != nil {
		in.Abort()
		return ID{}, err
	}
	m := &exportedMessage{Envelope: t.Envelope, HeldFor: t.HeldFor, HeldAt: q.clock.wall().UTC()}
	for _, s := range t.States {
		m.States = append(m.States, exportedState{State: s, NextAttempt: q.clock.wall()}) // when it was tried last, the trash does not know
	}
	q.mu.Lock()
	there := q.trash.remove(i.seq)
	if q.byID[i.id] == nil {
		in.entry.ID = i.id
	}
	q.mu.Unlock()
	if !there { // somebody else restores it, or its time is over
		in.Abort()
		return ID{}, ErrNotInTrash
	}
	in.batch.Delete(trashKey(i.seq))
	deleteBody(i.seq, i.chunks, in.batch)
	done := make(chan error, 1)
	if err = in.submit(&m.Envelope, m, func(err error) { done <- err }); err != nil {
		in.Abort()
	} else {
		err = <-done
	}
	if err != nil {
		q.trash.putBack(i)
		return ID{}, err
	}
	q.log.Info("restored from the trash by the operator", "queue_id", in.ID().String(), "removed_queue_id", i.id.String(), "from", t.From, "recipients", len(t.Recipients))
	return in.ID(), ctx.Err()
}

// loadTrash reads what the trash holds. A record that cannot be read stays where it
// is, with its body.
func (q *Queue) loadTrash() error {
	var from []byte
	for {
		err := q.store.Scan(store.PrefixTrash, from, func(k, v []byte) error {
			var rec trashRecord
			seq, ok := trashSeq(k)
			if !ok {
				return nil
			}
			q.sequence.used(seq)
			if err := decode(v, &rec); err != nil {
				q.unreadableTrash(seq, err)
				return nil
			}
			q.trash.add(&trashItem{seq: seq, id: rec.Envelope.ID, size: rec.Envelope.Size, chunks: rec.Envelope.Chunks, removedAt: rec.RemovedAt})
			return nil
		})
		damaged, ok := errors.AsType[*store.ValueError](err)
		if !ok {
			q.trash.sort()
			return err
		}
		if seq, ok := trashSeq(damaged.Key); ok {
			q.sequence.used(seq)
			q.unreadableTrash(seq, err)
		}
		from = append(damaged.Key, 0)
	}
}

// unreadableTrash leaves a damaged record where it is, and the body with it.
func (q *Queue) unreadableTrash(seq uint64, err error) {
	q.log.Error("a record of the trash cannot be read; it is left where it is", "number", seq, "error", err)
	q.trash.add(&trashItem{seq: seq, removedAt: q.clock.wall().Add(unreadableTime)})
}

func trashSeq(key []byte) (uint64, bool) {
	rest := key[len(store.PrefixTrash):]
	if len(rest) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(rest), true
}
