package adminapi

import "golang.org/x/sys/unix"

// peerUID returns the user ID of the process at the other end of a unix socket.
func peerUID(fd int) (uint32, bool) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, false
	}
	return cred.Uid, true
}
