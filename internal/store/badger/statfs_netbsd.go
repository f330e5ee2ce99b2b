package badger

import "golang.org/x/sys/unix"

func statfs(dir string) (free int64, err error) {
	var st unix.Statvfs_t
	err = unix.Statvfs(dir, &st)
	return int64(st.Bavail) * int64(st.Frsize), err
}
