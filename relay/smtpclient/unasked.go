//go:build linux || darwin || freebsd || netbsd || openbsd

package smtpclient

import (
	"errors"
	"io"
	"syscall"
)

// unasked returns why a session that is open must not be used again: io.EOF where the host
// has closed it, ErrUnexpected where it has said something that nobody asked for.
func unasked(conn syscall.RawConn) (why error) {
	failed := conn.Control(func(fd uintptr) {
		var octet [1]byte
		n, _, err := syscall.Recvfrom(int(fd), octet[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR):
		case err != nil:
			why = err
		case n == 0:
			why = io.EOF
		default:
			why = ErrUnexpected
		}
	})
	if failed != nil {
		return failed
	}
	return why
}
