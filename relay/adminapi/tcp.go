package adminapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// ListenHTTP binds the TCP address for the web page, health and metrics. token
// is what clients must show, "" for none: then the address must be a loopback
// one.
func (s *Server) ListenHTTP(address, token string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("admin.http: %w", err)
	}
	s.tcp = l
	s.web = &http.Server{
		Handler: s.Web(token), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
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

// Web is what is served on TCP: whether the process works, whether it takes
// mail, the metrics, and the page. The first two say nothing that a stranger
// could use; the others are for those whom guard lets in. Nothing there changes
// anything.
func (s *Server) Web(token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if st := s.o.Status(); !st.Accepting {
			http.Error(w, st.Problem, http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.Handle("/metrics", guard(token, "Bearer", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s.o.Metrics(w)
	})))
	for path, page := range newPages(s).handlers() {
		mux.Handle(path, guard(token, `Basic realm="stsrelay"`, page))
	}
	return harmless(mux)
}

// harmless lets only reading pass, and keeps browsers from doing anything with
// the answers but showing them: no scripts, nothing from elsewhere, no frames,
// no copies.
func harmless(next http.Handler) http.Handler {
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

// guard lets those in who show the token; challenge tells others how to. Without
// a token only programs of this machine get here. A browser on it, however, can be
// led here by a stranger's site whose name resolves to a loopback address, and
// would show that site's scripts what it gets: so the name it asks for must be this
// machine's own. Its port may be another one, that of a tunnel.
func guard(token, challenge string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case token != "" && !shows(r, token):
			w.Header().Set("WWW-Authenticate", challenge)
			http.Error(w, "the token of admin.token_file is needed", http.StatusUnauthorized)
		case token == "" && !isLoopback(r.Host):
			http.Error(w, "without admin.token_file the address must begin with 127.0.0.1, [::1] or localhost", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// shows says whether a request shows the token: as a bearer does, or as a browser
// can, as the password of whatever user. How long that takes tells nothing of
// the token, not even its length.
func shows(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		_, given, _ = r.BasicAuth()
	}
	got, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// isLoopback says whether a Host field, with or without a port, names this machine.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}
