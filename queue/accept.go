package queue

import (
	"context"
	"errors"
	"sync"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// chunkSize is the size of the largest part of a body that is one value in the store;
// docs/store.md has the measurement. A session holds at most four chunks, 1 MiB.
const chunkSize = 256 << 10

// Chunks are submitted in pairs, because each commit costs two syncs. One pair may be
// on its way to the disk while the next one is filled.
const (
	chunksTogether = 2
	pairsInFlight  = 1
)

// Incoming is a message that is being received. Its body is written to the store in
// chunks while it arrives. Commit makes it a message of the queue; Abort deletes it.
// It is used by one goroutine.
type Incoming struct {
	q      *Queue
	entry  *scheduler.Entry
	buf    []byte
	batch  *store.Batch // full chunks that are not submitted
	chunks int
	size   int64
	slots  chan struct{} // one for each pair in flight
	ended  bool
	fronts bool   // the first chunk is reserved for front
	front  []byte // what is put before the body

	mu  sync.Mutex
	err error // the first chunk that failed
}

// Begin opens a message. The error wraps store.ErrDiskFull, store.ErrFailed or
// ErrFull if no mail can be accepted now. Every Incoming ends with Commit or
// Abort; a Commit that was refused before it began still needs the Abort.
func (q *Queue) Begin() (*Incoming, error) {
	if err := q.Accepting(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return &Incoming{q: q, entry: q.enterLocked(), batch: new(store.Batch), slots: make(chan struct{}, pairsInFlight)}, nil
}

// Accepting reports whether mail can be accepted now; the error is that of Begin.
func (q *Queue) Accepting() error {
	if err := q.store.Err(); err != nil {
		return err
	}
	if err := q.store.CheckSpace(0); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := q.scheduler.Counts().Messages; q.maxMessages > 0 && n >= q.maxMessages {
		return phrase.Errorf("%w: %d messages", ErrFull, n)
	}
	return nil
}

// Room reports whether a message of n octets can be accepted; the error wraps
// store.ErrDiskFull.
func (q *Queue) Room(n int64) error { return q.store.CheckSpace(n) }

// ID is the name that the message will have.
func (in *Incoming) ID() ID { return in.entry.ID }

// Size is the number of octets written so far.
func (in *Incoming) Size() int64 { return in.size }

// Reserve keeps a place before the body for fields that are known only when the whole
// body has arrived, such as a signature. It must be called before the first Write.
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

// flush adds the full buffer to the batch of chunks, and submits the batch once it has
// a pair.
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

// failure returns the error of the first chunk that could not be written.
func (in *Incoming) failure() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

// Commit stores the envelope with the remainder of the body, and returns when both are
// durable: from then on the queue is responsible for the message. ID, Size, ReceivedAt
// (if it is zero) and Chunks of env are set here. After an error the message is not in
// the queue, except if ctx ended first: then it may be.
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

// submit submits the envelope with the remainder of the body; done is called unless
// there is an error. imported is nil for a new message.
func (in *Incoming) submit(env *Envelope, imported *exportedMessage, done func(error)) error {
	if len(env.Recipients) == 0 {
		return errors.New("a message needs a recipient")
	}
	if err := in.q.store.CheckSpace(int64(in.batch.Len()*chunkSize + len(in.buf))); err != nil {
		return err
	}
	in.ended = true
	b := in.batch
	whole := in.chunks == 0 || in.fronts && in.chunks == 1 // what in.buf has
	kept := freshMessage{envelope: env, chunk: in.chunks, body: in.buf}
	in.q.buildEnvelope(in.entry, env, in.buf, in.chunks, in.size, b)
	if in.fronts {
		b.Set(bodyKey(in.entry.Seq, 0), in.front)
	}
	if imported != nil {
		imported.addState(in.entry.Seq, b)
	}
	// An envelope is never written without its chunks: the committer calls failure after
	// all of them have succeeded or failed.
	b.Precondition(in.failure)
	in.q.store.Submit(b, func(err error) {
		// Before it is due: the first attempt forgets it.
		if err == nil && !(whole && in.q.fresh.keep(in.entry.Seq, kept, in.q.clock.now())) {
			in.q.buffers.put(in.buf)
		}
		in.q.commitAccepted(in.entry, env, imported, err)
		done(err)
	})
	return nil
}

// handOver returns the batch with the remainder of the body, for a commit after which
// the body belongs to another record, and the number of chunks. handedOver must follow.
func (in *Incoming) handOver() (b *store.Batch, chunks int) {
	in.ended = true
	if len(in.buf) > 0 {
		in.batch.Set(bodyKey(in.entry.Seq, in.chunks), in.buf)
		in.chunks++
	}
	return in.batch, in.chunks
}

// handedOver ends the Incoming after that commit.
func (in *Incoming) handedOver() {
	in.q.mu.Lock()
	defer in.q.mu.Unlock()
	in.q.discardLocked(in.entry)
}

// buildEnvelope completes the envelope, and adds it and the remainder of the body to b.
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

// commitAccepted is called after the commit of a message: it enters the schedule, or, if
// there was an error, is discarded.
func (q *Queue) commitAccepted(e *scheduler.Entry, env *Envelope, imported *exportedMessage, err error) {
	q.mu.Lock()
	if err != nil {
		q.discardLocked(e)
		q.mu.Unlock()
		if errors.Is(err, store.ErrUnknown) {
			q.withdraw(e.Seq, env.Chunks, imported)
		} else {
			q.dropBody(e.Seq, env.Chunks)
		}
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

// Abort discards the message and deletes the stored chunks of its body. After Commit
// was submitted it does nothing.
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

// withdraw deletes a message of which nobody knows whether it was written. The sender is
// told that it was not.
func (q *Queue) withdraw(seq uint64, chunks int, imported *exportedMessage) {
	var b, written store.Batch
	b.RetryWhenFull()
	b.Delete(messageKey(seq))
	if imported != nil {
		imported.addState(seq, &written)
	}
	for _, o := range written.Ops() {
		b.Delete(o.Key)
	}
	deleteBody(seq, chunks, &b)
	q.write(&b)
}

// dropBody deletes a body that no envelope refers to.
func (q *Queue) dropBody(seq uint64, chunks int) {
	if chunks == 0 {
		return
	}
	var b store.Batch
	deleteBody(seq, chunks, &b)
	q.write(&b) // what stays is swept at the next start
}
