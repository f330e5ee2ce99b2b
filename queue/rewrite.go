package queue

import (
	"errors"
	"io"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Reader returns a reader of what was written so far; all of that is in the store then.
// The reader leaves out the place that Reserve keeps.
func (in *Incoming) Reader() (io.Reader, error) {
	if len(in.buf) > 0 {
		in.batch.Set(bodyKey(in.entry.Seq, in.chunks), in.buf)
		in.chunks++
		in.buf = nil
	}
	if in.batch.Len() > 0 {
		if err := in.submitChunks(); err != nil {
			return nil, err
		}
	}
	in.slots <- struct{}{} // all that was submitted has been written
	<-in.slots
	if err := in.failure(); err != nil {
		return nil, err
	}
	b := newBody(in.q, in.entry.Seq, in.chunks)
	if in.fronts {
		b.next = 1
	}
	return b, nil
}

// Again opens a message that replaces this one, under the same ID. The caller aborts
// one of the two.
func (in *Incoming) Again() (*Incoming, error) {
	if in.ended {
		return nil, errors.New("the message has ended")
	}
	fresh, err := in.q.Begin()
	if err != nil {
		return nil, err
	}
	in.q.mu.Lock()
	fresh.entry.ID = in.entry.ID
	in.q.mu.Unlock()
	return fresh, nil
}

// submitChunks submits the full chunks. It waits while too many are being written, so
// that a fast client cannot fill the memory.
func (in *Incoming) submitChunks() error {
	if err := in.q.store.CheckSpace(int64(in.batch.Len()) * chunkSize); err != nil {
		return err
	}
	in.slots <- struct{}{}
	if err := in.failure(); err != nil {
		return err
	}
	in.q.store.Submit(in.batch, func(err error) {
		if err != nil {
			in.mu.Lock()
			in.err = errors.Join(in.err, err)
			in.mu.Unlock()
		}
		<-in.slots
	})
	in.batch = new(store.Batch)
	return nil
}
