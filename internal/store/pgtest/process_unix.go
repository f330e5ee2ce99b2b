//go:build unix && !linux

package pgtest

import "syscall"

// attributes are those of a server's process. It outlives the program that started it,
// where that one is killed.
func (c *Cluster) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: c.owner, Setpgid: true}
}
