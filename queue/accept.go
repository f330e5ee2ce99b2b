package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// chunkSize is the most of a body that one store value holds; see docs/store.md
// for the measurement. A session holds at most four chunks, 1 MiB.
const chunkSize = 256 << 10

// Chunks go to the committer in pairs, and one pair may be on its way to the
// disk while the next one fills: each commit costs two syncs.
const (
	chunksTogether = 2
	pairsInFlight  = 1
)

// Incoming is a message that is coming in. Its body is written to the store in
// chunks while it arrives; Commit makes it a message of the queue, Abort makes
// it as if it had never been. It is used by one goroutine.
type Incoming struct {
	q      *Queue
	entry  *scheduler.Entry
	buf    []byte
	batch  *store.Batch // full chunks that are not submitted
	chunks int
	size   int64
	slots  chan struct{} // one for each pair in flight
	ended  bool
	fronts bool   // the first chunk is for front
	front  []byte // what stands in front of the body

	mu  sync.Mutex
	err error // the first chunk that failed
}

// Begin opens a message. The error wraps store.ErrDiskFull, store.ErrFailed or
// ErrFull where no mail can be taken in now. Every Incoming ends with Commit or
// Abort; a Commit that was refused before it began still needs the Abort.
func (q *Queue) Begin() (*Incoming, error) {
	if err := q.Accepting(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return &Incoming{q: q, entry: q.enterLocked(), batch: new(store.Batch), slots: make(chan struct{}, pairsInFlight)}, nil
}

// Accepting reports whether mail can be taken in now; the error is Begin's.
func (q *Queue) Accepting() error {
	if err := q.store.Err(); err != nil {
		return err
	}
	if err := q.store.Room(0); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := q.scheduler.Counts().Messages; q.maxMessages > 0 && n >= q.maxMessages {
		return fmt.Errorf("%w: %d messages", ErrFull, n)
	}
	return nil
}

// Room reports whether a message of n octets can be taken in; the error wraps
// store.ErrDiskFull.
func (q *Queue) Room(n int64) error { return q.store.Room(n) }

// ID is the name that the message will have.
func (in *Incoming) ID() ID { return in.entry.ID }

// Size is the number of octets written so far.
func (in *Incoming) Size() int64 { return in.size }

// Reserve keeps a place in front of the body for what is known only when all of
// it has come in, such as a signature. It comes before the first Write.
func (in *Incoming) Reserve() { in.fronts, in.chunks = true, 1 }

// Front puts fields into the reserved place.
func (in *Incoming) Front(fields []byte) {
	in.front = fields
	in.size += int64(len(fields))
}

// Write adds to the body. An error means that the message cannot be stored.
func (in *Incoming) Write(p []byte) (int, error) {
	n := 0
	if in.buf == nil {
		in.buf = in.q.buffers.get()
	}
	for len(p) > 0 {
		if len(in.buf) == chunkSize {
			if err := in.flush(); err != nil {
				return n, err
			}
		}
		k := min(len(p), chunkSize-len(in.buf))
		in.buf = append(in.buf, p[:k]...)
		p = p[k:]
		n += k
		in.size += int64(k)
	}
	return n, nil
}

// flush takes the full buffer among those that are to be stored, and hands them
// to the committer.
func (in *Incoming) flush() error {
	in.batch.Set(bodyKey(in.entry.Seq, in.chunks), in.buf)
	in.chunks++
	in.buf = nil
	if in.batch.Len() < chunksTogether {
		in.buf = make([]byte, 0, chunkSize)
		return in.failure()
	}
	if err := in.submitChunks(); err != nil {
		return err
	}
	in.buf = make([]byte, 0, chunkSize)
	return nil
}

func (in *Incoming) failure() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

// Commit stores the envelope with what is left of the body and returns when
// both are durable: from then on the queue answers for the message. ID, Size,
// ReceivedAt (where it is zero) and Chunks of env are set here. After an error
// the message is not in the queue, except when ctx ended first: then it may be.
func (in *Incoming) Commit(ctx context.Context, env Envelope) error {
	done := make(chan error, 1)
	if err := in.submit(&env, nil, func(err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// submit hands the envelope and the rest of the body to the committer; done is
// called unless there is an error. imported is nil for a message that is new.
func (in *Incoming) submit(env *Envelope, imported *exportedMessage, done func(error)) error {
	if len(env.Recipients) == 0 {
		return errors.New("a message needs a recipient")
	}
	if err := in.q.store.Room(int64(in.batch.Len()*chunkSize + len(in.buf))); err != nil {
		return err
	}
	in.ended = true
	b := in.batch
	in.q.buildEnvelope(in.entry, env, in.buf, in.chunks, in.size, b)
	if in.fronts {
		b.Set(bodyKey(in.entry.Seq, 0), in.front)
	}
	if imported != nil {
		imported.addState(in.entry.Seq, b)
	}
	// An envelope is never written without its chunks: those that failed are
	// known by the time that the committer asks.
	b.If(in.failure)
	in.q.mu.Lock()
	in.q.scheduler.SenderWaits(in.q.clock.now())
	in.q.mu.Unlock()
	in.q.store.Submit(b, func(err error) {
		if err == nil {
			in.q.buffers.put(in.buf)
		}
		in.q.commitAccepted(in.entry, env, imported, err)
		done(err)
	})
	return nil
}

// handOver returns the batch with what is not written of the body yet, for a commit
// that takes the body over, and the number of its chunks. handedOver must follow.
func (in *Incoming) handOver() (b *store.Batch, chunks int) {
	in.ended = true
	if len(in.buf) > 0 {
		in.batch.Set(bodyKey(in.entry.Seq, in.chunks), in.buf)
		in.chunks++
	}
	return in.batch, in.chunks
}

// handedOver ends the Incoming after the commit that took its body over.
func (in *Incoming) handedOver() {
	in.q.mu.Lock()
	defer in.q.mu.Unlock()
	in.q.discardLocked(in.entry)
}

// buildEnvelope completes the envelope and puts it and the rest of the body into b.
func (q *Queue) buildEnvelope(e *scheduler.Entry, env *Envelope, rest []byte, chunks int, size int64, b *store.Batch) {
	env.ID = e.ID
	if env.ReceivedAt.IsZero() {
		env.ReceivedAt = q.clock.wall()
	}
	env.ReceivedAt = env.ReceivedAt.UTC().Round(0)
	env.Size = size
	for len(rest) > 0 {
		n := min(len(rest), chunkSize)
		b.Set(bodyKey(e.Seq, chunks), rest[:n])
		rest = rest[n:]
		chunks++
	}
	env.Chunks = chunks
	b.Set(messageKey(e.Seq), encode(env))
}

// commitAccepted takes the message into the schedule, or forgets it.
func (q *Queue) commitAccepted(e *scheduler.Entry, env *Envelope, imported *exportedMessage, err error) {
	q.mu.Lock()
	q.scheduler.SenderAnswered(q.clock.now())
	if err != nil {
		q.discardLocked(e)
		q.mu.Unlock()
		q.dropBody(e.Seq, env.Chunks)
		return
	}
	if imported == nil {
		q.admitLocked(e, env)
	} else {
		q.admitImportedLocked(e, imported)
	}
	q.mu.Unlock()
	q.wake.raise()
}

// Abort gives the message up: what is stored of its body is deleted. After
// Commit was submitted it does nothing.
func (in *Incoming) Abort() {
	if in.ended {
		return
	}
	in.ended = true
	in.q.buffers.put(in.buf)
	in.q.mu.Lock()
	in.q.discardLocked(in.entry)
	in.q.mu.Unlock()
	in.q.dropBody(in.entry.Seq, in.chunks)
}

func (q *Queue) dropBody(seq uint64, chunks int) {
	if chunks == 0 {
		return
	}
	var b store.Batch
	deleteBody(seq, chunks, &b)
	q.write(&b) // what stays is swept at the next start
}
