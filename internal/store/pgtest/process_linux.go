package pgtest

import "syscall"

// attributes are those of a server's process: it ends when the program that started it
// does.
func (c *Cluster) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if o := c.owner; o != nil {
		a.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	return a
}
