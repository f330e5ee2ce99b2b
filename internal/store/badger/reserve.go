package badger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
			_ = reserveBlocks(file, f.size)
			_ = file.Close()
			r.filling.Go(func() { populate(name, f.size) })
			r.next[kind]++
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
