package admin

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
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

// Server serves the API on a unix socket, and health and metrics on TCP.
type Server struct {
	o        Options
	http     *http.Server
	listener net.Listener
	health   *http.Server
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

// ListenHTTP binds the TCP address for health and metrics. token is what clients
// must show ("Authorization: Bearer"), "" for none.
func (s *Server) ListenHTTP(address, token string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("admin.http: %w", err)
	}
	s.tcp = l
	s.health = &http.Server{
		Handler: s.Health(token), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}
	return nil
}

// HTTPAddr is the TCP address that is bound, nil for none.
func (s *Server) HTTPAddr() net.Addr {
	if s.tcp == nil {
		return nil
	}
	return s.tcp.Addr()
}

// Serve answers until Shutdown. Listen must have come before.
func (s *Server) Serve() error {
	done := make(chan error, 2)
	go func() { done <- s.http.Serve(s.listener) }()
	n := 1
	if s.health != nil {
		n++
		go func() { done <- s.health.Serve(s.tcp) }()
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
	for _, h := range []*http.Server{s.http, s.health} {
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
	mux.HandleFunc("GET /v1/queue/{id}", s.show)
	mux.HandleFunc("GET /v1/queue/{id}/content", s.content)
	mux.HandleFunc("GET /v1/summary", s.summary)
	mux.HandleFunc("POST /v1/queue/{action}", s.change)
	mux.HandleFunc("GET /v1/reports", s.reportList)
	mux.HandleFunc("GET /v1/reports/{day}", s.reportPreview)
	mux.HandleFunc("POST /v1/reports/{day}/send", s.reportSend)
	mux.HandleFunc("GET /v1/policies", s.policies)
	mux.HandleFunc("GET /v1/policies/{domain}", s.policy)
	mux.HandleFunc("GET /v1/policies/{domain}/stored", s.storedPolicy)
	mux.HandleFunc("POST /v1/policies/{domain}/refresh", s.refresh)
	mux.HandleFunc("DELETE /v1/policies/{domain}", s.removePolicy)
	return mux
}

// Health is what is served on TCP: whether the process works, whether it takes
// mail, and the metrics. The first two say nothing that a stranger could use;
// metrics are for those who have the token.
func (s *Server) Health(token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token != "" && subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the token of admin.token_file is needed", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s.o.Metrics(w)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if st := s.o.Status(); !st.Accepting {
			http.Error(w, st.Problem, http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone if it fails
}

func refuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	restart, err := s.o.Reload(r.Context())
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	answer(w, Reloaded{Reloaded: true, Restart: append([]string{}, restart...)})
}

// list streams an array, the oldest message first.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	sel := Selection{Domain: q.Get("domain"), From: q.Get("from"), To: q.Get("to"), State: q.Get("state"), OlderThan: q.Get("older_than"), All: true}
	f, err := s.filter(&sel)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	limit := -1
	if l := q.Get("limit"); l != "" {
		if limit, err = strconv.Atoi(l); err != nil || limit < 0 {
			refuse(w, http.StatusBadRequest, fmt.Errorf("limit %q is not a number", l))
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	n := 0
	_, _ = io.WriteString(w, "[")
	if limit != 0 {
		err = s.o.Queue.List(r.Context(), f, func(m queue.Message) bool {
			if n > 0 {
				_, _ = io.WriteString(w, ",")
			}
			n++
			return enc.Encode(newMessage(&m)) == nil && n != limit
		})
	}
	if err != nil {
		s.o.Logger.Error("queue list was cut short", "error", err)
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
	_, _ = io.WriteString(w, "]\n")
}

func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	m, err := s.find(r.PathValue("id"))
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	answer(w, newMessage(&m))
}

func (s *Server) content(w http.ResponseWriter, r *http.Request) {
	m, err := s.find(r.PathValue("id"))
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	body, err := s.o.Queue.Open(m.ID)
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Length", strconv.FormatInt(m.Size, 10))
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
}

func (s *Server) find(id string) (queue.Message, error) {
	full, err := s.o.Queue.Resolve(id)
	if err != nil {
		return queue.Message{}, err
	}
	return s.o.Queue.Show(full)
}

func (s *Server) summary(w http.ResponseWriter, _ *http.Request) {
	out := []DomainSummary{}
	for _, d := range s.o.Queue.Summary() {
		out = append(out, DomainSummary{Domain: d.Domain, Messages: d.Messages, Recipients: d.Recipients,
			OldestAt: d.OldestAt.UTC().Truncate(time.Millisecond), NextAttemptAt: timePointer(d.NextAttemptAt), LastError: d.Last.Text, Why: newWhy(d.Last, d.Domain, "")})
	}
	answer(w, out)
}

// filter turns a selection into the queue's.
func (s *Server) filter(sel *Selection) (queue.Filter, error) {
	f := queue.Filter{From: sel.From, To: sel.To, State: queue.State(sel.State)}
	if sel.Domain != "" {
		domain, err := mailbox.ParseName(sel.Domain)
		if err != nil {
			return f, err
		}
		f.Domain = domain
	}
	if sel.OlderThan != "" {
		d, err := time.ParseDuration(sel.OlderThan)
		if err != nil {
			return f, fmt.Errorf("older_than %q is not a time such as 2h", sel.OlderThan)
		}
		f.OlderThan = d
	}
	if !slices.Contains([]queue.State{"", queue.Queued, queue.Active, queue.Held}, f.State) {
		return f, fmt.Errorf("state %q is not queued, active or held", sel.State)
	}
	if len(sel.IDs) == 0 && !sel.All && f.Domain == "" && f.From == "" && f.To == "" && f.State == "" && f.OlderThan == 0 {
		return f, errors.New("say which messages: IDs, a filter, or all")
	}
	return f, nil
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
		refuse(w, http.StatusBadRequest, fmt.Errorf("the request is no selection: %w", err))
		return
	}
	f, err := s.filter(&sel)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
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
			refuse(w, http.StatusBadRequest, fmt.Errorf("dry_run is for remove and bounce, not for %s", action))
		} else if err := s.o.Queue.List(r.Context(), f, func(queue.Message) bool { out.Touched++; return true }); err != nil {
			refuse(w, http.StatusInternalServerError, err)
		} else {
			answer(w, out)
		}
		return
	}
	out.Touched, err = s.apply(r.Context(), action, f, sel.Reason)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
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

var errNoSTS = errors.New("MTA-STS is switched off (sts.enabled)")

func (s *Server) policies(w http.ResponseWriter, _ *http.Request) {
	out := []Policy{}
	if s.o.Policies != nil {
		for _, e := range s.o.Policies.List() {
			out = append(out, newPolicy(e))
		}
	}
	answer(w, out)
}

// policyDomain is the domain of the path, where the cache is on.
func (s *Server) policyDomain(w http.ResponseWriter, r *http.Request) (string, bool) {
	if s.o.Policies == nil {
		refuse(w, http.StatusConflict, errNoSTS)
		return "", false
	}
	domain, err := mailbox.ParseName(r.PathValue("domain"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
	}
	return domain, err == nil
}

func (s *Server) policy(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.policyDomain(w, r)
	if !ok {
		return
	}
	e, ok := s.o.Policies.Show(domain)
	if !ok {
		refuse(w, http.StatusNotFound, fmt.Errorf("no policy of %s is cached", domain))
		return
	}
	answer(w, newPolicy(e))
}

// storedPolicy is what the cache knows of a domain in the form of the store; it
// is empty where that is nothing.
func (s *Server) storedPolicy(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.policyDomain(w, r)
	if !ok {
		return
	}
	value, _ := s.o.Policies.Stored(domain)
	w.Header().Set("Content-Type", "application/cbor")
	_, _ = w.Write(value) // the client has gone if it fails
}

func (s *Server) refresh(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.policyDomain(w, r)
	if !ok {
		return
	}
	e, err := s.o.Policies.Refresh(r.Context(), domain)
	if err != nil {
		refuse(w, http.StatusBadGateway, err)
		return
	}
	answer(w, newPolicy(e))
}

func (s *Server) removePolicy(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.policyDomain(w, r)
	if !ok {
		return
	}
	found, err := s.o.Policies.Remove(r.Context(), domain)
	switch {
	case err != nil:
		refuse(w, http.StatusInternalServerError, err)
	case !found:
		refuse(w, http.StatusNotFound, fmt.Errorf("no policy of %s is cached", domain))
	default:
		answer(w, Touched{Touched: 1})
	}
}
