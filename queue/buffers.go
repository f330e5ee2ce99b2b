package queue

import "sync"

// keptBuffer is the largest buffer that is lent out again. Larger bodies are
// rare, and their memory is better given back.
const keptBuffer = 64 << 10

// buffers lends out memory for bodies. Nearly every message needs one for the
// moment that it comes in and one for the moment that it goes out; made anew,
// they would be most of the garbage of the process.
type buffers struct{ pool sync.Pool }

// get returns an empty buffer.
func (b *buffers) get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return make([]byte, 0, 16<<10)
}

// put takes back what nobody uses any more.
func (b *buffers) put(mem []byte) {
	if cap(mem) > 0 && cap(mem) <= keptBuffer {
		b.pool.Put(&mem)
	}
}
