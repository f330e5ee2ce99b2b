package queue

import (
	"sync"
	"time"
)

// keptBuffer is the size of the largest buffer that is used again. Larger bodies are
// rare, and the garbage collector may have their memory.
const keptBuffer = 64 << 10

// buffers has memory for bodies. Nearly every message needs a buffer when it is
// received and one when it is delivered; if these were allocated each time, they would
// be most of the garbage of the process.
type buffers struct {
	pool   sync.Pool // of *[]byte
	places sync.Pool // of *[]byte without memory, so that put need not make one
}

// get returns an empty buffer.
func (b *buffers) get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		mem := *p
		*p = nil
		b.places.Put(p)
		return mem[:0]
	}
	return make([]byte, 0, 16<<10)
}

// put returns a buffer that is not used any more.
func (b *buffers) put(mem []byte) {
	if cap(mem) > 0 && cap(mem) <= keptBuffer {
		p, ok := b.places.Get().(*[]byte)
		if !ok {
			p = new([]byte)
		}
		*p = mem
		b.pool.Put(p)
	}
}

// timers has timers for claims that wait.
type timers struct{ pool sync.Pool }

// get returns a timer to be reset.
func (t *timers) get() *time.Timer {
	if timer, ok := t.pool.Get().(*time.Timer); ok {
		return timer
	}
	return time.NewTimer(time.Hour)
}

// put stops a timer, and keeps it.
func (t *timers) put(timer *time.Timer) {
	timer.Stop()
	t.pool.Put(timer)
}
