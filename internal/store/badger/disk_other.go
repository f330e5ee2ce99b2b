//go:build !linux

package badger

import "os"

// reserveBlocks does nothing here: these systems have no common call for it. If another
// program fills the disk in the middle of a transaction, SIGBUS may end the process.
func reserveBlocks(*os.File, int64) error { return nil }

// allocate makes f size bytes long and allocates all of its blocks.
func allocate(f *os.File, size int64) error {
	zero := make([]byte, 1<<20)
	for size > 0 {
		n, err := f.Write(zero[:min(size, int64(len(zero)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// populate does nothing here: it is needed for the read-ahead of Linux only.
func populate(string, int64) {}
