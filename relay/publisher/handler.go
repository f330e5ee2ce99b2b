package publisher

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/stsrelay/stsrelay/sts/publish"
)

// ServeHTTP answers with policies: for the exact host and path, without a redirect, which
// senders do not follow (RFC 8461, 3.3).
func (p *Publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.challenge(w, r) {
		return
	}
	host := hostOf(r)
	e := (*p.served.Load())[host]
	switch {
	case host == p.o.Host && p.handler(r) != nil: // also where a policy is served under this name
		p.handler(r).ServeHTTP(w, r)
	case e == nil && host == p.o.Host:
		p.notFound(w, "there is nothing at this path")
	case e == nil:
		p.notFound(w, "no policy of %s is published here", host)
	case r.URL.Path != publish.Path || r.URL.RawPath != "":
		p.otherPath(w, r, e)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		p.o.Counted("not-found")
		http.Error(w, "a policy is read with GET", http.StatusMethodNotAllowed)
	default:
		p.o.Counted("policy")
		p.fetched(e)
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Length", strconv.Itoa(len(e.text)))
		h.Set("Cache-Control", "no-cache") // whoever stands between has no part in max_age
		h.Set("X-Content-Type-Options", "nosniff")
		if r.Method == http.MethodGet {
			_, _ = w.Write(e.text) // the client has gone if it fails
		}
	}
}

// hostOf is the host that a request is for, in lower case, without a port.
func hostOf(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func (p *Publisher) challenge(w http.ResponseWriter, r *http.Request) bool {
	if p.o.Challenge == nil || !p.o.Challenge(w, r) {
		return false
	}
	p.o.Counted("challenge")
	return true
}

// handler is what answers a request for Host beside the policies, nil for none.
func (p *Publisher) handler(r *http.Request) http.Handler {
	h, pattern := p.mounted.Handler(r)
	if pattern == "" {
		return nil
	}
	return h
}

// otherPath refuses another path of a policy host, and says which one is right: mostly it
// was mistyped by a person who looks whether it works.
func (p *Publisher) otherPath(w http.ResponseWriter, r *http.Request, e *entry) {
	if near(r.URL.Path) {
		e.mu.Lock()
		e.near++
		e.misspelt = r.URL.Path[:min(len(r.URL.Path), 100)]
		e.mu.Unlock()
	}
	p.notFound(w, "there is nothing at this path; the policy of %s is at https://%s%s", e.domain.Name, publish.PolicyHost(e.domain.Name), publish.Path)
}

// near reports whether a path was meant to be that of a policy: "/.well_known/mta-sts.txt".
func near(path string) bool {
	path = strings.ToLower(path)
	return strings.Contains(path, "mta-sts") || strings.Contains(path, "mta_sts") || strings.Contains(path, "well")
}

func (p *Publisher) notFound(w http.ResponseWriter, format string, args ...any) {
	p.o.Counted("not-found")
	http.Error(w, fmt.Sprintf(format, args...), http.StatusNotFound)
}

// challengeOnly answers on port 80: there is nothing but the challenges of a certificate
// authority, and no way to HTTPS that a sender would follow.
func (p *Publisher) challengeOnly(w http.ResponseWriter, r *http.Request) {
	if !p.challenge(w, r) {
		p.notFound(w, "policies are served over HTTPS only")
	}
}
