//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package smtpclient

import "syscall"

// unasked is not known on this system.
func unasked(syscall.RawConn) error { return nil }
