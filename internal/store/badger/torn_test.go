package badger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger/badgertest"
)

const tornBody = 10_000

func tornValue(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, tornBody/3) }

// end returns the offset after the last byte of a file that is not zero.
func end(t *testing.T, file string) int64 {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 1<<16)
	for n := len(data) - len(zero); n > 0 && bytes.Equal(data[n:], zero); n -= len(zero) {
		data = data[:n]
	}
	for len(data) > 0 && data[len(data)-1] == 0 {
		data = data[:len(data)-1]
	}
	return int64(len(data))
}

func newest(t *testing.T, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return slices.Max(files)
}

// A power cut may tear the last write. Wherever the newest files are cut, the store
// opens, the data before the cut is whole, and no value is returned that was not
// written.
func TestATornFileCostsNothingButWhatWasCutOff(t *testing.T) {
	const n = 100
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	for i := range n {
		var b store.Batch
		b.Set(key(i), tornValue(i))
		b.Set(append([]byte("small"), key(i)...), []byte("envelope"))
		commit(t, s, &b)
	}
	for _, row := range []struct {
		pattern string
		each    int64 // bytes of one batch, less than or equal to the truth
	}{{"*.vlog", tornBody}, {"*.mem", 60}} {
		for _, cut := range []int64{-4096, 1, 3*row.each + 5} {
			t.Run(fmt.Sprintf("%s cut by %d bytes", row.pattern, cut), func(t *testing.T) {
				copied := badgertest.Copy(t, dir)
				file := newest(t, copied, row.pattern)
				if err := os.Truncate(file, end(t, file)-cut); err != nil {
					t.Fatal(err)
				}
				lost := 0
				if cut > 0 {
					lost = int(cut/row.each) + 2
				}
				c := open(t, Options{Dir: copied})
				for i := range n {
					v, err := store.Get(c, key(i))
					if _, damaged := errors.AsType[*store.ValueError](err); err != nil && !damaged {
						t.Errorf("value %d: %v", i, err)
					}
					if v != nil && !bytes.Equal(v, tornValue(i)) {
						t.Errorf("value %d came back wrong", i)
					}
					if v == nil && i < n-lost {
						t.Errorf("value %d of %d is lost: %v", i, n, err)
					}
				}
				if c.Err() != nil {
					t.Errorf("the store has failed: %v", c.Err())
				}
				if err := store.Put(t.Context(), c, key(n), tornValue(n)); err != nil || !bytes.Equal(get(t, c, key(n)), tornValue(n)) {
					t.Errorf("writing after it: %v", err)
				}
			})
		}
	}
}

func TestADamagedValueIsAnErrorForItsReaderAndForNobodyElse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	for i := range 3 {
		if err := store.Put(t.Context(), s, key(i), tornValue(i)); err != nil {
			t.Fatal(err)
		}
	}
	copied := badgertest.Copy(t, dir)
	file := newest(t, copied, "*.vlog")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), int64(bytes.Index(data, tornValue(2)))+500); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c := open(t, Options{Dir: copied})
	var damaged *store.ValueError
	if v, err := store.Get(c, key(2)); !errors.As(err, &damaged) || !bytes.Equal(damaged.Key, key(2)) {
		t.Errorf("Get gave %d bytes and %v", len(v), err)
	}
	var seen [][]byte
	err = c.Scan([]byte("k"), nil, func(k, _ []byte) error {
		seen = append(seen, slices.Clone(k))
		return nil
	})
	if damaged = nil; !errors.As(err, &damaged) || len(seen) != 2 {
		t.Errorf("Scan saw %x and ended with %v", seen, err)
	}
	var b store.Batch
	b.Update(key(2), func(old []byte) []byte {
		if old != nil {
			t.Error("Update saw a damaged value")
		}
		return []byte("anew")
	})
	commit(t, c, &b)
	if string(get(t, c, key(2))) != "anew" || c.Err() != nil {
		t.Errorf("value %q, Err %v", get(t, c, key(2)), c.Err())
	}
}
