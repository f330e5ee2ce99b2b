package badger

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserveBlocks allocates the blocks of the first size bytes of f. It does not change
// the length of f.
func reserveBlocks(f *os.File, size int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
}

// allocate makes f size bytes long and allocates all of its blocks.
func allocate(f *os.File, size int64) error {
	return unix.Fallocate(int(f.Fd()), 0, 0, size)
}

// populate brings the first size bytes of a file into the page cache one page
// at a time. Without it, the kernel's read-ahead answers the page faults of a
// sequential writer with folios of up to 2 MiB, and each msync writes a whole folio to
// the device for the few KiB that were changed in it: 14 times what was stored. Pages
// that are in the cache already are not read ahead.
//
// It costs 20 ms of processor time for 64 MiB, in parallel to the committer.
func populate(name string, size int64) {
	file, err := os.Open(name)
	if err != nil {
		return // the file is gone, or the next transaction will report the error
	}
	defer file.Close()
	const step = 128 << 10 // the most that Linux reads per call with the usual read-ahead size of a device
	for at := int64(0); at < size; at += step {
		if unix.Fadvise(int(file.Fd()), at, step, unix.FADV_WILLNEED) != nil {
			return
		}
	}
}
