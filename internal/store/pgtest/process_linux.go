package pgtest

import "syscall"

// attributes are those of a server's process: it ends when the program that started it
// does.
func (c *Cluster) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: c.owner, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}
