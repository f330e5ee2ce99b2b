package badger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// reserver reserves blocks for the files that Badger writes next, and brings their
// pages into the page cache. Badger creates these files with holes and writes them
// through memory maps. If another program takes the last block in the middle of a
// transaction, SIGBUS ends the process. A page whose block is reserved can always be
// written.
//
// Only the committer uses it, before each transaction.
type reserver struct {
	dir     string
	next    [2]int // number of the next file, by kind
	filling sync.WaitGroup
}

// reserved lists the value log and the write-ahead log: the format of the file name,
// its ending, and the size that a file can reach. The size is the limit at which Badger
// begins the next file, plus one transaction.
var reserved = [2]struct {
	name, ext string
	size      int64
}{
	{"%06d.vlog", ".vlog", valueLogFileSize + maxBodyBytes + 1<<20},
	{"%05d.mem", memtableExt, memTableSize + 2*maxTreeBytes},
}

// ahead reserves blocks for the files that Badger has created since the last call. A
// failed reservation is ignored here: space.critical decides whether anything is
// written. memtable reports whether a memtable has been begun.
func (r *reserver) ahead() (memtable bool) {
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
			memtable = memtable || f.ext == memtableExt
		}
	}
	return memtable
}

// memtableExt is the ending of the name of a write-ahead log; each memtable has one.
const memtableExt = ".mem"

// newReserver returns a reserver that begins with the newest file of each kind.
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
