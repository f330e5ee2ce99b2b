// Package web is what the relay serves on TCP: pages for people, which show what
// relay/operator returns, and health and metrics for programs. Health and metrics
// are here and not with the API on the unix socket because they are asked for from
// other machines: they share the address, the token and the headers of the pages.
//
// What changes something is a form that is sent by POST. It calls the method of the
// operator that the API calls, with an Actor of its own, and answers with the page
// that it came from.
package web

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/stsrelay/stsrelay/internal/httpserve"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// Options configures New. Operator and Metrics are required.
type Options struct {
	Operator *operator.Operator
	// Metrics writes the counters in the format of Prometheus.
	Metrics func(io.Writer)
	// Token is what clients must show to look, "" for none: then the address must be a
	// loopback one. ActToken is what they must show to act; "": nobody can.
	Token, ActToken string
	// TokenDelay is how much later the first wrong token of an address is answered; the
	// next ones double it. 0: a second.
	TokenDelay time.Duration
	// TLS is the configuration of the listener; nil: it serves in clear.
	TLS    *tls.Config
	Logger *slog.Logger
}

// Listen returns a server of pages, health and metrics that is bound to a TCP address.
func Listen(address string, o Options) (*httpserve.Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin.http: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.TLS != nil {
		l = tls.NewListener(l, o.TLS)
	}
	return httpserve.New(l, &http.Server{
		Handler: Handler(o), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: writeTime, IdleTimeout: time.Minute,
	}, o.Logger), nil
}

// writeTime is how long an answer may take, from the end of the request's header on.
const writeTime = 30 * time.Second

// Handler returns what is served. Whether the process works and whether it takes
// mail in is answered to everybody, and says nothing that a stranger could use.
// The pages and the metrics are for those who may look; what changes something is for
// those who may act.
func Handler(o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := newAccess(&o)
	p := newPages(&o, a)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if o.Operator.Accepting() != nil { // the reason names folders and numbers
			a.refuse(w, r, http.StatusServiceUnavailable, notAccepting)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.Handle("GET /metrics", a.looking("Bearer", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		o.Metrics(w)
	})))
	for path, page := range p.handlers() {
		mux.Handle("GET "+path, a.looking("", page))
	}
	for path, action := range p.actions() {
		mux.Handle("POST "+path, a.looking("", a.acting(action)))
	}
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, pageFiles, "page/style.css") })
	p.loginRoutes(mux)
	drainRoutes(mux, a, o.Operator)
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.Logger.Warn("a form that another site had sent was refused", "client", clientOf(r).String(), "origin", r.Header.Get("Origin"), "path", r.URL.Path)
		a.refuse(w, r, http.StatusForbidden, "this form was sent by another site: nothing was changed")
	}))
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, r, http.StatusNotFound, "there is no such page")
	})
	return a.headers(foreign.Handler(mux))
}

// headers keeps browsers from doing anything with the answers but showing them: no
// scripts, nothing from elsewhere, no frames, no copies. Methods that nothing here has
// are refused.
func (a *access) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "same-origin") // with none at all, a browser would not say which site a form is of
		h.Set("Cache-Control", "no-store")
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodPost:
			next.ServeHTTP(w, r)
		default:
			h.Set("Allow", "GET, HEAD, POST")
			a.refuse(w, r, http.StatusMethodNotAllowed, "only GET, HEAD and POST are answered here")
		}
	})
}
