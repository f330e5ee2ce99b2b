// Package listenlog logs why a listener accepts no connections.
package listenlog

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

// Every is how often a listener logs at most that it cannot accept connections.
const Every = time.Minute

type listener struct {
	net.Listener
	log    *slog.Logger
	failed time.Time // when that was logged last; for the goroutine that accepts
}

// Listener returns ln with a log of the errors of Accept, such as too many open files: the
// servers that have them wait and try again, and say nothing. Accept is for one goroutine.
func Listener(ln net.Listener, log *slog.Logger) net.Listener {
	return &listener{Listener: ln, log: log}
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) && time.Since(l.failed) >= Every {
		l.failed = time.Now()
		l.log.Error("no connection can be accepted", "listener", l.Addr().String(), "error", err)
	}
	return c, err
}
