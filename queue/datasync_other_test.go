//go:build !linux

package queue

import "os"

// datasync brings the data of a file to the disk, here with all of its metadata.
func datasync(f *os.File) error { return f.Sync() }
