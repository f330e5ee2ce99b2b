//go:build linux || darwin || freebsd || dragonfly

package badger

import "golang.org/x/sys/unix"

func statfs(dir string) (free int64, err error) {
	var st unix.Statfs_t
	err = unix.Statfs(dir, &st)
	return int64(st.Bavail) * int64(st.Bsize), err //nolint:unconvert // the types differ by system
}
