//go:build !linux

package badger

import "os"

// reserveBlocks does nothing here: there is no call that all of these systems
// share. A disk that another program fills up in the middle of a transaction
// may end the process.
func reserveBlocks(*os.File, int64) error { return nil }

// allocate makes f size bytes long, with all of its blocks.
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

// populate does nothing here: it is about how Linux reads ahead.
func populate(string, int64) {}
