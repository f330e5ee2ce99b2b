package listenlog

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a listener with an error.
type failing struct {
	net.Listener
	err error
}

func (f failing) Accept() (net.Conn, error) { return nil, f.err }
func (failing) Addr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25} }

// A listener that accepts nothing is in the log, and not with each try.
func TestConnectionsThatCannotBeAcceptedAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		noFiles := &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		ln := Listener(failing{err: noFiles}, slog.New(slog.NewJSONHandler(&out, nil)))
		for _, want := range []int{1, 1, 2, 2} {
			if _, err := ln.Accept(); !errors.Is(err, syscall.EMFILE) {
				t.Error(err)
			}
			if got := strings.Count(out.String(), "too many open files"); got != want {
				t.Errorf("%d lines, want %d", got, want)
			}
			time.Sleep(Every/2 + time.Second)
		}
		if !strings.Contains(out.String(), `"level":"ERROR","msg":"no connection can be accepted","listener":"192.0.2.1:25","error":"accept tcp: accept4: too many open files"`) {
			t.Error(out.String())
		}
	})
}

// The end of a listener is no error.
func TestTheEndIsNotLogged(t *testing.T) {
	var out bytes.Buffer
	ln := Listener(failing{err: &net.OpError{Op: "accept", Err: net.ErrClosed}}, slog.New(slog.NewJSONHandler(&out, nil)))
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) || out.Len() > 0 {
		t.Error(err, out.String())
	}
}
