package badger

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger/badgertest"
	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

// place is a folder with a store, on a disk that the test fills.
func place(dir string) storetest.Place {
	d := newDisk(1 << 40)
	var s *Store
	pause := make(chan chan struct{})
	return storetest.Place{
		Open: func(t *testing.T) storetest.Engine {
			s = open(t, Options{Dir: dir, Free: d.measure, GCInterval: time.Hour, Committed: func(int, time.Duration) {
				select {
				case resume := <-pause:
					<-resume
				default:
				}
			}})
			return s
		},
		// Crash copies the folder between a transaction and its acknowledgements.
		// During a transaction, the copies of two files would be inconsistent.
		Crash: func(t *testing.T) storetest.Place {
			resume := make(chan struct{})
			defer close(resume)
			for paused := false; !paused; {
				s.Submit(new(store.Batch), nil)
				select {
				case pause <- resume:
					paused = true
				case <-time.After(time.Millisecond):
				}
			}
			return place(badgertest.Copy(t, dir))
		},
		Fill: func(full bool) {
			if full {
				d.free.Store(criticalSpace - 1)
			} else {
				d.free.Store(1 << 40)
			}
		},
		Fail: func(s storetest.Engine) { s.(*Store).failure.set(errors.New("input/output error")) },
		Damage: func(t *testing.T, key []byte) {
			file := newest(t, dir, "*.vlog")
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.Index(data, append(bytes.Repeat([]byte("9"), 1), key...)) // the key follows the value
			if at < 0 {
				t.Fatalf("%s is not in %s", key, file)
			}
			flip(t, file, int64(at)-500)
		},
	}
}

func TestTheEngineKeepsItsPromises(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Place { return place(t.TempDir()) })
}
