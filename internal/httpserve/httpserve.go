// Package httpserve is an HTTP server on one listener: it is served once, ends within a
// time, and tells the relay's log of its faults.
package httpserve

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/stsrelay/stsrelay/internal/listenlog"
)

// Server serves on a listener that is bound already.
type Server struct {
	HTTP     *http.Server
	Listener net.Listener
}

// New returns a server. What strangers cause, such as broken handshakes, is in the log at
// the level debug only.
func New(ln net.Listener, s *http.Server, to *slog.Logger) *Server {
	s.Handler = faults{s.Handler, to}
	s.ErrorLog = log.New(debugLog{to}, "", 0)
	return &Server{HTTP: s, Listener: listenlog.Listener(ln, to)}
}

// faults logs the panics of a handler, and lets the server end the connection.
type faults struct {
	http.Handler
	log *slog.Logger
}

func (f faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		if fault != http.ErrAbortHandler { //nolint:errorlint // it is no error in a chain, but a value of panic
			f.log.Error("a request ended by a fault of the relay", "client", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "text", fmt.Sprintf("%v\n%s", fault, debug.Stack()))
		}
		panic(http.ErrAbortHandler)
	}()
	f.Handler.ServeHTTP(w, r)
}

// debugLog writes the lines of net/http.
type debugLog struct{ log *slog.Logger }

func (d debugLog) Write(line []byte) (int, error) {
	d.log.Debug("http", "text", strings.TrimSpace(string(line)))
	return len(line), nil
}

// Addr returns the address that is bound.
func (s *Server) Addr() net.Addr { return s.Listener.Addr() }

// Serve answers until Shutdown.
func (s *Server) Serve() error {
	if err := s.HTTP.Serve(s.Listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops the server. Requests under way are cut off when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.HTTP.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.HTTP.Close())
	}
	return err
}

// Close closes the listener of a server that was not served.
func (s *Server) Close() error {
	if s.Listener == nil {
		return nil
	}
	return s.Listener.Close()
}
