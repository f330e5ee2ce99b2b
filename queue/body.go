package queue

import (
	"fmt"
	"io"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// body reads the content of a message from the store.
type body struct {
	q      *Queue
	seq    uint64
	chunks int
	next   int    // the number of the next chunk
	failed *error // where an error of the store is noted; nil: nowhere
	mem    []byte // memory for one chunk
	buf    []byte // the part of the chunk that was not read yet
}

func newBody(q *Queue, seq uint64, chunks int) *body {
	return &body{q: q, seq: seq, chunks: chunks}
}

// ErrBodyGone is returned if a body was removed while it was being read.
var ErrBodyGone = phrase.Errorf("the message was removed")

// load reads the next chunk. It copies, because memory of the store must not be held
// while a slow host receives the chunk.
func (b *body) load() error {
	found := false
	if b.mem == nil {
		b.mem = b.q.buffers.get()
	}
	var err error
	if b.mem, found = b.q.fresh.appendBody(b.mem[:0], b.seq, b.next); !found {
		err = b.q.store.View(bodyKey(b.seq, b.next), func(v []byte) error {
			found = true
			b.mem = append(b.mem[:0], v...)
			return nil
		})
	}
	if err == nil && !found {
		err = fmt.Errorf("%w: chunk %d of its body is not there", ErrBodyGone, b.next)
	}
	b.next++
	b.buf = b.mem
	if err != nil {
		b.buf = nil // the memory still has the chunk before
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

// end returns the memory to the pool once everything was read.
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
