package web

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// access decides who may see the pages and who may act.
type access struct {
	look, act string // the tokens; "": none is needed to look, nobody can act
	sessions  sessions
	brake     brake
	log       *slog.Logger
	words     map[string]*words // by language
}

func newAccess(o *Options) *access {
	return &access{look: o.Token, act: o.ActToken, log: o.Logger, words: allWords(),
		sessions: sessions{all: make(map[[sha256.Size]byte]*session)}, brake: brake{first: cmp.Or(o.TokenDelay, time.Second), tries: make(map[netip.Addr]*tries)}}
}

// role returns what a request may do by its session, or for want of a token.
func (a *access) role(r *http.Request) role {
	if secret := secretOf(r); secret != "" {
		switch role := a.sessions.role(secret, time.Now()); {
		case role == acts && !isPrivate(r):
			return looks
		case role != nobody:
			return role
		}
	}
	if a.look == "" {
		return looks
	}
	return nobody
}

// looking lets clients in that may see the pages: by session, by the token in the
// Authorization field, or without either where no token is set. Others are led to the
// login, or challenged where challenge is not "".
// Without a token only programs of this machine get here. A browser on this machine,
// however, can be led here by a stranger's site whose name resolves to a loopback
// address (DNS rebinding), and would show the answer to that site's scripts. So the
// Host of the request must name this machine. Its port may be another one, that of
// a tunnel.
func (a *access) looking(challenge string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case a.look == "" && !isLoopback(r.Host):
			a.refuse(w, r, http.StatusForbidden, notLoopback)
		case a.role(r) != nobody:
			next.ServeHTTP(w, r)
		case r.Header.Get("Authorization") != "":
			a.byHeader(w, r, challenge, next)
		case challenge != "":
			a.refuseToken(w, r, challenge)
		default:
			leadToLogin(w, r)
		}
	})
}

// byHeader judges the token of an Authorization field.
func (a *access) byHeader(w http.ResponseWriter, r *http.Request, challenge string, next http.Handler) {
	token := givenToken(r)
	ok, wait := a.brake.try(r.Context(), clientOf(r), func() bool { return sameToken(token, a.look) || sameToken(token, a.act) })
	switch {
	case wait > 0:
		a.tooMany(w, r, wait)
	case !ok:
		a.log.Warn("a wrong token was shown to the web page", "client", clientOf(r).String())
		if challenge == "" {
			challenge = `Basic realm="stsrelay"`
		}
		a.refuseToken(w, r, challenge)
	default:
		next.ServeHTTP(w, r)
	}
}

// refuse answers with a line of text in the language of the browser.
func (a *access) refuse(w http.ResponseWriter, r *http.Request, status int, text string, args ...any) {
	http.Error(w, a.words[languageOf(r)].T(text, args...), status)
}

func (a *access) refuseToken(w http.ResponseWriter, r *http.Request, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	a.refuse(w, r, http.StatusUnauthorized, "the token of admin.token_file is needed")
}

func (a *access) tooMany(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	w.Header().Set("Retry-After", secondsOf(wait))
	a.refuse(w, r, http.StatusTooManyRequests, tooManyTokens, secondsOf(wait))
}

// secondsOf returns a time in whole seconds, which is not less than the time.
func secondsOf(wait time.Duration) string { return strconv.Itoa(int(wait/time.Second) + 1) }

// leadToLogin sends a browser to the login form, and from there back to where it was.
func leadToLogin(w http.ResponseWriter, r *http.Request) {
	back := r.URL.RequestURI()
	if r.Method == http.MethodPost {
		back = backOf(r)
	}
	http.Redirect(w, r, "/login?"+url.Values{"back": {back}}.Encode(), http.StatusSeeOther)
}

// backOf returns the page that a form names to go back to: a path of this host, "/" for
// anything else.
func backOf(r *http.Request) string {
	back := r.FormValue("back")
	u, err := url.Parse(back)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") || strings.ContainsAny(back, "\\\r\n") {
		return "/"
	}
	return back
}

// acting lets clients in that may change something. Others are led to the login.
func (a *access) acting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		switch {
		case a.act == "":
			a.refuse(w, r, http.StatusForbidden, "nothing can be changed here: set admin.act_token_file, or use the command line on the relay's machine")
		case a.role(r) != acts:
			leadToLogin(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// login judges the token of the login form and begins a session. problem is what the
// form has to say where there is none.
func (a *access) login(w http.ResponseWriter, r *http.Request) (problem string, status int) {
	token, role := r.FormValue("token"), nobody
	ok, wait := a.brake.try(r.Context(), clientOf(r), func() bool {
		switch {
		case sameToken(token, a.act):
			role = acts
		case sameToken(token, a.look):
			role = looks
		}
		return role != nobody
	})
	switch {
	case wait > 0:
		w.Header().Set("Retry-After", secondsOf(wait))
		return tooManyTokens, http.StatusTooManyRequests
	case !ok:
		a.log.Warn("a wrong token was shown to the web page", "client", clientOf(r).String())
		return "This is not a token of this relay.", http.StatusForbidden
	case role == acts && !isPrivate(r):
		return withoutTLS, http.StatusForbidden
	}
	a.log.Info("login on the web page", "client", clientOf(r).String(), "may_act", role == acts)
	http.SetCookie(w, newCookie(r, a.sessions.open(role, time.Now())))
	http.Redirect(w, r, backOf(r), http.StatusSeeOther) //nolint:gosec // backOf returns paths of this host only
	return "", 0
}

// Why somebody is refused, for more than one place.
const (
	// withoutTLS is why nobody can act over a connection that others may read.
	withoutTLS = "Without TLS the token could be read on the way: set admin.tls, or use the tunnel."
	// notAccepting is for strangers, too.
	notAccepting  = "no mail is taken in: stsrelay status has the reason"
	notLoopback   = "without admin.token_file the address must begin with 127.0.0.1, [::1] or localhost"
	tooManyTokens = "Too many wrong tokens came from your address. Try again in %s seconds." //nolint:gosec // no token
)

// logout ends the session of a request.
func (a *access) logout(w http.ResponseWriter, r *http.Request) {
	a.sessions.end(secretOf(r))
	http.SetCookie(w, newCookie(r, ""))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// sameToken reports whether a token is the wanted one, "" never. The time that it takes
// depends neither on the token nor on its length.
func sameToken(given, want string) bool {
	g, w := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(g[:], w[:]) == 1 && want != ""
}

// givenToken returns the token of an Authorization field: as a bearer token, or as a
// password with any user.
func givenToken(r *http.Request) string {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		_, given, _ = r.BasicAuth()
	}
	return given
}

// clientOf returns the address of a client.
func clientOf(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr().Unmap()
}

// isPrivate reports whether nobody on the network can read a request: it came over TLS,
// or did not leave this machine.
func isPrivate(r *http.Request) bool { return r.TLS != nil || onLoopback(r) }

// onLoopback reports whether both ends of a request's connection are loopback addresses.
func onLoopback(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !clientOf(r).IsLoopback() {
		return false
	}
	a, err := netip.ParseAddrPort(local.String())
	return err == nil && a.Addr().Unmap().IsLoopback()
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
