package queue

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync brings the data of a file to the disk.
func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
