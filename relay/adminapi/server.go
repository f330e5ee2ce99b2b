package adminapi

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/stsrelay/stsrelay/docs"
	"github.com/stsrelay/stsrelay/internal/httpserve"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// Options configures New. Operator is required.
type Options struct {
	Operator *operator.Operator
	Logger   *slog.Logger
}

// Server serves the API on a unix socket.
type Server struct {
	httpserve.Server // Listen must come before Serve
	operator         *operator.Operator
	log              *slog.Logger
}

// New returns a server that does not listen yet.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{operator: o.Operator, log: o.Logger}
}

// Listen makes the socket, for the user of the process only. A stale socket is
// removed. It is an error if another process answers on it.
func (s *Server) Listen(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("admin.socket: %w", err)
	}
	if there, err := os.Lstat(path); err == nil {
		if there.Mode()&os.ModeSocket == 0 {
			return fmt.Errorf("admin.socket: there is something at %s that is no socket; name another path, or take it away", path)
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return fmt.Errorf("admin.socket: another relay answers on %s", path)
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("admin.socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("admin.socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("admin.socket: %w", err)
	}
	s.Server = *httpserve.New(l, &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ConnContext: withPeer}, s.log)
	return nil
}

// Handler returns the whole API. Each handler reads the request, calls the
// operator, and writes the answer.
func (s *Server) Handler() http.Handler {
	o, mux := s.operator, http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, o.Status()) })
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.Reload(r.Context(), actorOf(r.Context())))
	})
	mux.HandleFunc("GET /v1/store", s.backupStore)
	mux.HandleFunc("POST /v1/drain", s.drain)
	mux.HandleFunc("GET /v1/live", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, o.Live(r.Context())) })
	mux.HandleFunc("GET /v1/fleet", func(w http.ResponseWriter, r *http.Request) { answer(w)(o.FleetStatus(r.Context())) })
	mux.HandleFunc("GET /v1/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = io.WriteString(w, docs.OpenAPI) // the client has gone if it fails
	})
	s.queueRoutes(mux)
	s.traceRoutes(mux)
	s.trashRoutes(mux)
	s.historyRoutes(mux)
	s.policyRoutes(mux)
	s.reportRoutes(mux)
	s.receivedRoutes(mux)
	s.publishRoutes(mux)
	return mux
}

// maxRequest is the largest selection in octets.
const maxRequest = 16 << 20

// readSelection reads the selection in the body of a request. If there is none, it
// answers that and returns false.
func readSelection(w http.ResponseWriter, r *http.Request) (sel operator.Selection, ok bool) {
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&sel); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("the request is no selection: %w", err))
		return sel, false
	}
	return sel, true
}
