package queue

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// What was taken in a run of another relay's drain is remembered until that relay says that
// the run has ended, or for takenTime: it may ask again, since it did not get the answer,
// when the message has been delivered here already.
//
//	q taken run id    the time
const takenTime = 7 * 24 * time.Hour

var keyTaken = append(append([]byte{}, store.PrefixQueue...), "taken"...)

func takenKey(run string, id ID) []byte {
	return append(append(append([]byte{}, keyTaken...), run...), id.String()...)
}

// Take adds the messages of an export file from another relay's drain to the queue. What it
// has taken in this run before, or what is in the queue, is not added again. The error is
// ErrImporting or ErrNoExport; other problems are in the answer.
func (q *Queue) Take(ctx context.Context, run string, r io.Reader) (Taken, error) {
	if !q.importing.CompareAndSwap(false, true) {
		return Taken{}, ErrImporting
	}
	defer q.importing.Store(false)
	in := newImporter(ctx, q)
	in.run = run
	t, err := readExport(r, in)
	in.wait()
	if err == nil {
		err = in.err
	}
	out := Taken{IDs: in.durable, Problems: t.Problems}
	if err == nil && !t.Complete {
		out.Error = "the end of what was sent is missing"
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out, nil
}

// tookBefore reports whether a message was taken in a run.
func (q *Queue) tookBefore(run string, id ID) (found bool, err error) {
	err = q.store.View(takenKey(run, id), func([]byte) error {
		found = true
		return nil
	})
	return found, err
}

// ForgetTaken forgets what was taken in a run.
func (q *Queue) ForgetTaken(ctx context.Context, run string) error {
	return q.forgetTaken(ctx, append(append([]byte{}, keyTaken...), run...), time.Time{})
}

// forgetTaken forgets what was taken before a time (zero: at any), by the beginning of its
// keys.
func (q *Queue) forgetTaken(ctx context.Context, prefix []byte, before time.Time) error {
	b := new(store.Batch)
	err := q.store.Scan(prefix, nil, func(key, value []byte) error {
		if len(value) != 8 || before.IsZero() || time.Unix(int64(binary.BigEndian.Uint64(value)), 0).Before(before) {
			b.Delete(append([]byte{}, key...))
		}
		if b.Len() < sweepBatch {
			return ctx.Err()
		}
		q.write(b)
		b = new(store.Batch)
		return ctx.Err()
	})
	if b.Len() > 0 {
		q.write(b)
	}
	return err
}
