// Package web is what the relay serves on TCP: pages for people, which show what
// relay/operator returns, and health and metrics for programs. Health and metrics
// are here and not with the API on the unix socket because they are asked for from
// other machines: they share the address, the token and the headers of the pages.
//
// Nothing can be changed here so far. A page that changes something calls the
// method of the operator that the API calls, with an Actor of its own.
package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/httpserve"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// Options configures New. Operator and Metrics are required.
type Options struct {
	Operator *operator.Operator
	// Metrics writes the counters in the format of Prometheus.
	Metrics func(io.Writer)
	// Token is what clients must show, "" for none: then the address must be a
	// loopback one.
	Token  string
	Logger *slog.Logger
}

// Listen returns a server of pages, health and metrics that is bound to a TCP address.
func Listen(address string, o Options) (*httpserve.Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin.http: %w", err)
	}
	return &httpserve.Server{Listener: l, HTTP: &http.Server{
		Handler: Handler(o), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}}, nil
}

// Handler returns what is served. Whether the process works and whether it takes
// mail in is answered to everybody, and says nothing that a stranger could use.
// The pages and the metrics are for clients that authenticate lets in.
func Handler(o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Operator.Accepting(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.Handle("/metrics", authenticate(o.Token, "Bearer", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		o.Metrics(w)
	})))
	for path, page := range newPages(o.Operator, o.Logger).handlers() {
		mux.Handle(path, authenticate(o.Token, `Basic realm="stsrelay"`, page))
	}
	return readOnly(mux)
}

// readOnly lets GET and HEAD pass only. Its headers keep browsers from doing
// anything with the answers but showing them: no scripts, nothing from elsewhere,
// no frames, no copies.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "nothing can be changed here: use the command line on the relay's machine", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authenticate lets clients in that show the token; challenge tells others how to.
// Without a token only programs of this machine get here. A browser on this machine,
// however, can be led here by a stranger's site whose name resolves to a loopback
// address (DNS rebinding), and would show the answer to that site's scripts. So the
// Host of the request must name this machine. Its port may be another one, that of
// a tunnel.
func authenticate(token, challenge string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case token != "" && !hasToken(r, token):
			w.Header().Set("WWW-Authenticate", challenge)
			http.Error(w, "the token of admin.token_file is needed", http.StatusUnauthorized)
		case token == "" && !isLoopback(r.Host):
			http.Error(w, "without admin.token_file the address must begin with 127.0.0.1, [::1] or localhost", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hasToken reports whether a request has the token: as a bearer token, or as a
// password, which is what browsers can send, with any user. The time that it takes
// depends neither on the token nor on its length.
func hasToken(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		_, given, _ = r.BasicAuth()
	}
	got, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// isLoopback reports whether a Host field, with or without a port, names this machine.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}
