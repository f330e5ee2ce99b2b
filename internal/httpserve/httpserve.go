// Package httpserve is an HTTP server on one listener: it is served once, and ends within
// a time.
package httpserve

import (
	"context"
	"errors"
	"net"
	"net/http"
)

// Server serves on a listener that is bound already.
type Server struct {
	HTTP     *http.Server
	Listener net.Listener
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
