package badgerfile

import (
	"bytes"
	"container/heap"
	"encoding/binary"
)

// Walk calls fn for every key with its newest version, in the order of the
// keys, except for those that are deleted. It can be called once.
func (d *Database) Walk(fn func(*Item) error) error {
	var m merge
	for i, s := range d.sources {
		if e, ok := s.next(); ok {
			m = append(m, head{e, i})
		}
	}
	heap.Init(&m)
	var last []byte
	for first := true; len(m) > 0; first = false {
		e := m[0].entry
		if next, ok := d.sources[m[0].source].next(); ok {
			m[0].entry = next
			heap.Fix(&m, 0)
		} else {
			heap.Pop(&m)
		}
		if !first && bytes.Equal(e.key, last) {
			continue // an older version, or the same one from a source that counts less
		}
		last = e.key
		if e.meta&bitDelete != 0 || bytes.HasPrefix(e.key, internalPrefix) {
			continue
		}
		if err := fn(itemOf(&e)); err != nil {
			return err
		}
	}
	return nil
}

// pointerSize is what a pointer takes: number, length and offset.
const pointerSize = 12

func itemOf(e *entry) *Item {
	it := &Item{Key: e.key, UserMeta: e.userMeta, version: e.version}
	switch {
	case e.meta&bitValuePointer == 0:
		it.Value = e.value
	case len(e.value) == pointerSize:
		it.Pointer = &Pointer{File: binary.NativeEndian.Uint32(e.value), Len: binary.NativeEndian.Uint32(e.value[4:]), Offset: binary.NativeEndian.Uint32(e.value[8:])}
	default:
		it.Pointer = &Pointer{} // no file has this number
	}
	return it
}

// head is the next entry of a source.
type head struct {
	entry
	source int
}

// merge is a heap of the sources' heads.
type merge []head

func (m merge) Len() int { return len(m) }
func (m merge) Less(i, j int) bool {
	if c := m[i].compare(&m[j].entry); c != 0 {
		return c < 0
	}
	return m[i].source < m[j].source
}
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)   { *m = append(*m, x.(head)) }
func (m *merge) Pop() any {
	n := len(*m) - 1
	x := (*m)[n]
	*m = (*m)[:n]
	return x
}
