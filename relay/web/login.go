package web

import (
	"net/http"
)

// loginPage is the form that asks for a token.
type loginPage struct {
	Back, Problem string
	// WithoutTLS reports whether nobody can act over this connection.
	WithoutTLS bool
}

// loginRoutes adds the form for tokens, and the end of a session.
func (p *pages) loginRoutes(mux *http.ServeMux) {
	if p.access.look == "" && p.access.act == "" {
		return
	}
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) { p.showLogin(w, r, "", http.StatusOK) })
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if p.access.look == "" && !isLoopback(r.Host) {
			p.access.refuse(w, r, http.StatusForbidden, notLoopback)
			return
		}
		if problem, status := p.access.login(w, r); problem != "" {
			p.showLogin(w, r, problem, status)
		}
	})
	mux.HandleFunc("POST /logout", p.access.logout)
}

// showLogin writes the form. It says nothing of the relay to those who have no token.
func (p *pages) showLogin(w http.ResponseWriter, r *http.Request, problem string, status int) {
	words := p.words[languageOf(r)]
	page := loginPage{Back: backOf(r), WithoutTLS: p.access.act != "" && !isPrivate(r)}
	switch {
	case problem == "":
	case status == http.StatusTooManyRequests:
		page.Problem = words.T(problem, w.Header().Get("Retry-After"))
	default:
		page.Problem = words.T(problem)
	}
	p.write(w, status, "login", &view{words: words, Title: words.T("Log in"), Page: page})
}
