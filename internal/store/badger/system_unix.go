//go:build unix

package badger

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// probe checks that the file system supports what the store needs: shared memory maps,
// msync and locks. Some network and desktop-container mounts do not, and would lose
// data silently.
func probe(dir string) error {
	f, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return fmt.Errorf("the store's folder %s cannot be written: %w", dir, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	unfit := func(what string, err error) error {
		return fmt.Errorf("the file system of %s cannot carry the store (%s: %w); use a local disk (ext4 or XFS)", dir, what, err)
	}
	if err := f.Truncate(4096); err != nil {
		return unfit("truncate", err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return unfit("mmap", err)
	}
	err = unix.Msync(m, unix.MS_SYNC)
	if err = errors.Join(err, unix.Munmap(m)); err != nil {
		return unfit("msync", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return unfit("flock", err)
	}
	return nil
}

// taken returns the number of bytes that a file occupies on its file system. It differs
// from the length, because files of the store have holes.
func taken(name string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil
}

func isLocked(err error) bool {
	return errors.Is(err, unix.EWOULDBLOCK) || strings.Contains(err.Error(), lockedText)
}

// lockShared prevents another process from opening the store: it takes a shared lock on
// the folder, which Badger locks exclusively.
func lockShared(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
