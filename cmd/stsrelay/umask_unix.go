//go:build unix

package main

import "syscall"

// private makes new files readable by this user alone, until the function that it returns is
// called. Badger makes its files, with mail in them, readable by all; they may lie in a folder
// that all may enter, as one where a disk is mounted.
func private() (end func()) {
	before := syscall.Umask(0o077)
	return func() { syscall.Umask(before) }
}
