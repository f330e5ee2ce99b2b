//go:build unix && !linux

package pgtest

import "syscall"

// attributes are those of a server's process. It outlives the program that started it,
// where that one is killed.
func (c *Cluster) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if o := c.owner; o != nil {
		a.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	return a
}
