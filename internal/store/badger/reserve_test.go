//go:build linux

package badger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stsrelay/stsrelay/internal/store"
)

// The files that Badger writes next have their blocks reserved, from the start on and
// after each change to a new file.
func TestTheFilesThatAreWrittenNextHaveTheirBlocks(t *testing.T) {
	dir := t.TempDir()
	if f, err := os.Create(filepath.Join(t.TempDir(), "probe")); err != nil {
		t.Fatal(err)
	} else if err := errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, 4096), f.Close()); err != nil {
		t.Skipf("the file system of %s reserves no blocks: %v", dir, err)
	}
	s := open(t, Options{Dir: dir})
	blocks := func(name string) int64 {
		t.Helper()
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Blocks * 512
	}
	write := func(i int) {
		var b store.Batch
		b.Set(key(i), bytes.Repeat([]byte{1}, 1<<20))
		commit(t, s, &b)
	}
	write(0)
	if n := blocks(filepath.Base(newest(t, dir, "*.vlog"))); n < valueLogFileSize {
		t.Errorf("the value log has %d bytes", n)
	}
	if n := blocks(filepath.Base(newest(t, dir, "*.mem"))); n < memTableSize {
		t.Errorf("the write-ahead log has %d bytes", n)
	}
	first := newest(t, dir, "*.vlog")
	for i := 1; newest(t, dir, "*.vlog") == first; i++ {
		write(i)
	}
	write(1000)
	if n := blocks(filepath.Base(newest(t, dir, "*.vlog"))); n < valueLogFileSize {
		t.Errorf("the second value log has %d bytes", n)
	}
	if n := blocks(filepath.Base(first)); n > valueLogFileSize+maxBodyBytes+1<<20 {
		t.Errorf("the first one still has %d bytes", n)
	}
}

// The octets written to the device are about those that were stored, not the large
// folios that read-ahead would cause.
func TestTheDeviceGetsAboutWhatWasStored(t *testing.T) {
	written := func() (n int64) {
		t.Helper()
		text, err := os.ReadFile("/proc/self/io")
		if err != nil {
			t.Skipf("the kernel does not tell what was written: %v", err)
		}
		for line := range strings.Lines(string(text)) {
			if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
				return n
			}
		}
		t.Skip("the kernel does not tell what was written")
		return 0
	}
	s := open(t, Options{})
	s.reserve.filling.Wait()
	const pieces, size = 600, 64 << 10
	before := written()
	for i := range pieces {
		var b store.Batch
		b.Set(key(i), make([]byte, size))
		commit(t, s, &b)
	}
	// A page at each end of a piece, the write-ahead log, what the tree compacts.
	if n, most := written()-before, int64(2*pieces*size); n > most {
		t.Errorf("%d bytes written for %d", n, pieces*size)
	}
}
