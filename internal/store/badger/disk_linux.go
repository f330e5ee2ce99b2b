package badger

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserveBlocks gives the first size bytes of f their blocks; its length stays.
func reserveBlocks(f *os.File, size int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
}

// allocate makes f size bytes long, with all of its blocks.
func allocate(f *os.File, size int64) error {
	return unix.Fallocate(int(f.Fd()), 0, 0, size)
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
