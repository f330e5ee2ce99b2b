package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// reserver gives blocks and pages to the files that Badger writes next. Badger
// makes them with holes and writes through memory maps; where another program
// takes the last block in the middle of a transaction, the process would die by
// SIGBUS. A page whose block is reserved can always be written.
//
// Only the committer uses it, before each transaction.
type reserver struct {
	dir     string
	next    [2]int // number of the next file, by kind
	filling sync.WaitGroup
}

// Value log and write-ahead log: how they are named and how much is written to
// one before the next is begun, with one transaction more.
var reserved = [2]struct {
	name, ext string
	size      int64
}{
	{"%06d.vlog", ".vlog", valueLogFileSize + maxBodyBytes + 1<<20},
	{"%05d.mem", ".mem", memTableSize + 2*maxTreeBytes},
}

// ahead reserves what was begun since the last call. That there is no room is
// no error here: the free space decides whether anything is written.
func (r *reserver) ahead() {
	for kind, f := range reserved {
		for {
			name := filepath.Join(r.dir, fmt.Sprintf(f.name, r.next[kind]))
			file, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				break
			}
			_ = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, f.size)
			_ = file.Close()
			r.filling.Go(func() { populate(name, f.size) })
			r.next[kind]++
		}
	}
}

// populate brings the first size bytes of a file into the page cache one page
// at a time. Left to itself, the kernel's read-ahead answers the faults of one
// that writes such a file in order with folios of up to 2 MiB, and each msync
// writes a whole folio to the device for the few KiB that were changed in it:
// 14 times what was stored. Pages that are there are not read ahead.
//
// It costs 20 ms of a processor for 64 MiB, beside the committer.
func populate(name string, size int64) {
	file, err := os.Open(name)
	if err != nil {
		return // gone already, or the next transaction meets the same trouble
	}
	defer file.Close()
	const step = 128 << 10 // Linux brings no more at a call where the device's read-ahead has its usual size
	for at := int64(0); at < size; at += step {
		if unix.Fadvise(int(file.Fd()), at, step, unix.FADV_WILLNEED) != nil {
			return
		}
	}
}

// newReserver begins with the newest files of each kind.
func newReserver(dir string) *reserver {
	r := &reserver{dir: dir}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		for kind, f := range reserved {
			var n int
			if strings.HasSuffix(e.Name(), f.ext) {
				if _, err := fmt.Sscanf(e.Name(), "%d", &n); err == nil {
					r.next[kind] = max(r.next[kind], n)
				}
			}
		}
	}
	r.ahead()
	return r
}
