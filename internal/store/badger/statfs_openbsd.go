package badger

import "golang.org/x/sys/unix"

func statfs(dir string) (free int64, err error) {
	var st unix.Statfs_t
	err = unix.Statfs(dir, &st)
	return st.F_bavail * int64(st.F_bsize), err
}
