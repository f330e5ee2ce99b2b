package config

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// maxSocketPath is the longest path of a socket that the system takes, in octets.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

func (l *loader) checkAdmin() {
	a := &l.config.Admin
	if a.Socket == "" {
		l.fail("admin.socket", nil, "must be the path of a socket")
	} else if path := l.config.SocketPath(); len(path) > maxSocketPath {
		l.fail("admin.socket", path, "is too long for a socket (%d octets at most)", maxSocketPath)
	} else if there, err := os.Lstat(path); err == nil && there.Mode()&os.ModeSocket == 0 {
		l.fail("admin.socket", path, "is something else than a socket: name another path, or take it away")
	}
	if a.HTTP == "" {
		return
	}
	if !isHostPort(a.HTTP) {
		l.fail("admin.http", a.HTTP, "must be an address and a port such as 127.0.0.1:8025")
		return
	}
	for i, li := range l.config.Listen {
		if overlap(li.Address, a.HTTP) {
			l.fail("admin.http", a.HTTP, "is the same as %s of listen[%d], or a part of it", li.Address, i)
		}
	}
	host, _, _ := net.SplitHostPort(a.HTTP)
	addr, err := netip.ParseAddr(host)
	if loopback := host == "localhost" || err == nil && addr.IsLoopback(); !loopback && a.TokenFile == "" {
		l.fail("admin.http", a.HTTP, "is reachable from other machines: set token_file, or use 127.0.0.1")
	}
}
