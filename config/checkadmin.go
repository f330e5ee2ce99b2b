package config

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"os"
	"strings"
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
	if loopback := host == "localhost" || err == nil && addr.IsLoopback(); loopback {
		return
	}
	if a.TokenFile == "" {
		l.fail("admin.http", a.HTTP, "is reachable from other machines: set token_file, or use 127.0.0.1")
	}
	if a.ActTokenFile != "" && !a.TLS {
		l.warn("admin.act_token_file: nobody can act on the page at %s without TLS, since the token could be read on the way: set admin.tls, or use 127.0.0.1 and a tunnel", a.HTTP)
	}
}

// checkTokens checks the tokens of the web page. They must differ: who may look could
// act otherwise.
func (l *loader) checkTokens() {
	a := &l.config.Admin
	read := func(key, file string, sum *[sha256.Size]byte) (token string) {
		if file == "" {
			return ""
		}
		token, err := ReadSecret(file)
		if err != nil {
			l.fail(key, file, "%v: it must hold the token", err)
		}
		token = strings.TrimSpace(token)
		*sum = sha256.Sum256([]byte(token))
		return token
	}
	look, act := read("admin.token_file", a.TokenFile, &a.TokenSums[0]), read("admin.act_token_file", a.ActTokenFile, &a.TokenSums[1])
	if act != "" && act == look {
		l.fail("admin.act_token_file", a.ActTokenFile, "holds the same token as token_file: who may look could act; make another one")
	}
}
