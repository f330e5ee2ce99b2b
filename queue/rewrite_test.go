package queue

import (
	"bytes"
	"io"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
)

// What was written of a message can be read before it is committed; it goes on
// after that, or another takes its place under its ID, and nothing is left of it.
func TestAMessageIsReadAndWrittenAnewBeforeItsCommit(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, chunkSize, chunkSize + 1, 2 * chunkSize, 5*chunkSize + 17} {
		for _, front := range []bool{false, true} {
			for _, again := range []bool{false, true} {
				b := newBench(t, Options{})
				written := bytes.Repeat([]byte("0123456789\r\n"), size/12+1)[:size]
				in, err := b.Begin()
				if err != nil {
					t.Fatal(err)
				}
				want := append([]byte{}, written...)
				if front {
					in.Reserve()
				}
				if _, err := in.Write(written); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					r, err := in.Reader()
					if err != nil {
						t.Fatal(err)
					}
					if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, written) {
						t.Errorf("%d octets: read %d, %v", size, len(got), err)
					}
				}
				id := in.ID()
				if again {
					fresh, err := in.Again()
					if err != nil {
						t.Fatal(err)
					}
					in.Abort()
					in, want = fresh, []byte("another")
					if front {
						in.Reserve()
					}
					if _, err := in.Write(want); err != nil {
						t.Fatal(err)
					}
				} else {
					if _, err := io.WriteString(in, "more"); err != nil {
						t.Fatal(err)
					}
					want = append(want, "more"...)
				}
				if front {
					in.Front([]byte("front\r\n"))
					want = append([]byte("front\r\n"), want...)
				}
				if err := in.Commit(t.Context(), to("a@x.test")); err != nil {
					t.Fatal(err)
				}
				in.Abort()
				m := b.show(id)
				r, err := b.Open(id)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) || m.Size != int64(len(want)) || b.Counts().Messages != 1 {
					t.Errorf("%d octets, front %t, again %t: %d octets in %d, %v", size, front, again, len(got), m.Size, err)
				}
				b.finish(b.claim(), Delivered)
				b.sync()
				if n := b.keys(store.PrefixBody); n != 0 {
					t.Errorf("%d octets, front %t, again %t: %d chunks are left", size, front, again, n)
				}
			}
		}
	}
}
