package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Options configures New. Queue and Status are required.
type Options struct {
	Queue *queue.Queue
	// Policies is the policy cache; nil: MTA-STS is off.
	Policies *sts.Manager
	Status   func() Status
	// Reload reads the configuration again. It returns the keys that change with
	// the next start only.
	Reload func(ctx context.Context) (restart []string, err error)
	// Notice makes the notice for a message that the operator gives up; nil, or
	// nil from it: none is sent.
	Notice func(m queue.Message, reason string) *queue.NewMessage
	// Reports makes and sends TLS reports; nil: they are switched off.
	Reports *tlsrpt.Reporter
	// Metrics writes the counters in the format of Prometheus.
	Metrics func(io.Writer)
	Logger  *slog.Logger
}

// Server serves the API on a unix socket, and what tcp.go has on TCP.
type Server struct {
	o        Options
	http     *http.Server
	listener net.Listener
	web      *http.Server
	tcp      net.Listener
}

// New returns a server that does not listen yet.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o}
	s.http = &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second}
	return s
}

// Listen makes the socket, for the user of the process only. A socket that was
// left behind is removed; one on which somebody answers is not.
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
	s.listener = l
	return nil
}

// Serve answers until Shutdown. Listen must have come before.
func (s *Server) Serve() error {
	done := make(chan error, 2)
	go func() { done <- s.http.Serve(s.listener) }()
	n := 1
	if s.web != nil {
		n++
		go func() { done <- s.web.Serve(s.tcp) }()
	}
	var err error
	for range n {
		if e := <-done; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e, s.Shutdown(context.Background()))
		}
	}
	return err
}

// Shutdown stops the server; what runs is cut off when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	var err error
	for _, h := range []*http.Server{s.http, s.web} {
		if h == nil {
			continue
		}
		if e := h.Shutdown(ctx); e != nil {
			err = errors.Join(err, e, h.Close())
		}
	}
	return err
}

// Close closes what is bound and not served.
func (s *Server) Close() error {
	var err error
	for _, l := range []net.Listener{s.listener, s.tcp} {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

// Handler is the whole API.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.o.Status()) })
	mux.HandleFunc("POST /v1/reload", s.reload)
	mux.HandleFunc("GET /v1/queue", s.list)
	mux.HandleFunc("GET /v1/queue/export", s.exportQueue)
	mux.HandleFunc("POST /v1/queue/import", s.importQueue)
	mux.HandleFunc("GET /v1/queue/{id}", func(w http.ResponseWriter, r *http.Request) {
		m, err := s.message(r.PathValue("id"))
		answerOr(w, m, err)
	})
	mux.HandleFunc("GET /v1/queue/{id}/content", s.content)
	mux.HandleFunc("GET /v1/summary", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.summary()) })
	mux.HandleFunc("POST /v1/queue/{action}", s.change)
	s.trashRoutes(mux)
	mux.HandleFunc("GET /v1/reports", s.reportList)
	mux.HandleFunc("GET /v1/reports/{day}", s.reportPreview)
	mux.HandleFunc("POST /v1/reports/{day}/send", s.reportSend)
	mux.HandleFunc("GET /v1/policies", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.policies()) })
	mux.HandleFunc("GET /v1/policies/{domain}", func(w http.ResponseWriter, r *http.Request) {
		p, err := s.policy(r.PathValue("domain"))
		answerOr(w, p, err)
	})
	mux.HandleFunc("GET /v1/policies/{domain}/stored", s.storedPolicy)
	mux.HandleFunc("POST /v1/policies/{domain}/refresh", s.refresh)
	mux.HandleFunc("DELETE /v1/policies/{domain}", s.removePolicy)
	return mux
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	restart, err := s.o.Reload(r.Context())
	if err != nil {
		refuse(w, refusal{http.StatusUnprocessableEntity, err})
		return
	}
	answer(w, Reloaded{Reloaded: true, Restart: append([]string{}, restart...)})
}

// list streams an array, the oldest message first.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	a := &array{w: w}
	s.end(a, s.messages(r.Context(), r.URL.Query(), func(m *Message) bool { return a.add(m) }))
}

func (s *Server) content(w http.ResponseWriter, r *http.Request) {
	m, err := s.find(r.PathValue("id"))
	if err != nil {
		refuse(w, err)
		return
	}
	body, err := s.o.Queue.Open(m.ID)
	if err != nil {
		refuse(w, refusal{http.StatusNotFound, err})
		return
	}
	// Once the answer has begun, nothing can be said of what cannot be read.
	if _, err := io.Copy(io.Discard, body); err != nil {
		refuse(w, fmt.Errorf("message %s cannot be read from the disk of the relay: %w", m.ID, err))
		return
	}
	if body, err = s.o.Queue.Open(m.ID); err != nil {
		refuse(w, refusal{http.StatusNotFound, err})
		return
	}
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Length", strconv.FormatInt(m.Size, 10))
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
}

// change is POST /v1/queue/ retry, hold, release, remove, bounce, pause, resume.
func (s *Server) change(w http.ResponseWriter, r *http.Request) {
	action := r.PathValue("action")
	if action == "pause" || action == "resume" {
		s.o.Queue.SetPaused(action == "pause")
		s.o.Logger.Info("delivery " + action + "d by the operator")
		answer(w, struct{}{})
		return
	}
	var sel Selection
	if err := json.NewDecoder(io.LimitReader(r.Body, 16<<20)).Decode(&sel); err != nil {
		refuse(w, refusal{http.StatusBadRequest, fmt.Errorf("the request is no selection: %w", err)})
		return
	}
	f, err := sel.filter()
	if err != nil {
		refuse(w, refusal{http.StatusBadRequest, err})
		return
	}
	var out Touched
	for _, id := range sel.IDs {
		full, err := s.o.Queue.Resolve(id)
		switch {
		case errors.Is(err, queue.ErrAmbiguous):
			out.Ambiguous = append(out.Ambiguous, id)
		case err != nil:
			out.Missing = append(out.Missing, id)
		default:
			f.IDs = append(f.IDs, full)
		}
	}
	if len(sel.IDs) > 0 && len(f.IDs) == 0 {
		answer(w, out)
		return
	}
	if sel.DryRun {
		if action != "remove" && action != "bounce" {
			refuse(w, refusal{http.StatusBadRequest, fmt.Errorf("dry_run is for remove and bounce, not for %s", action)})
		} else if err := s.o.Queue.List(r.Context(), f, func(queue.Message) bool { out.Touched++; return true }); err != nil {
			refuse(w, err)
		} else {
			answer(w, out)
		}
		return
	}
	out.Touched, err = s.apply(r.Context(), action, f, sel.Reason)
	if err != nil {
		refuse(w, err)
		return
	}
	s.o.Logger.LogAttrs(r.Context(), slog.LevelInfo, "queue changed by the operator",
		append([]slog.Attr{slog.String("action", action), slog.Int("touched", out.Touched)}, sel.attrs()...)...)
	answer(w, out)
}

func (s *Server) apply(ctx context.Context, action string, f queue.Filter, reason string) (int, error) {
	q := s.o.Queue
	switch action {
	case "retry":
		return q.Retry(ctx, f)
	case "hold":
		if reason == "" {
			reason = "by the operator"
		}
		return q.Hold(ctx, f, reason)
	case "release":
		return q.Unhold(ctx, f)
	case "remove":
		return q.Remove(ctx, f)
	case "bounce":
		return q.Bounce(ctx, f, reason, func(m queue.Message) *queue.NewMessage {
			if s.o.Notice == nil {
				return nil
			}
			return s.o.Notice(m, reason)
		})
	}
	return 0, fmt.Errorf("there is no action %q", action)
}
