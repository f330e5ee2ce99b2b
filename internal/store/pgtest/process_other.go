//go:build !unix

package pgtest

import "syscall"

// attributes are those of a server's process, where no store runs either: tests need only
// build here.
func (c *Cluster) attributes() *syscall.SysProcAttr { return nil }
