package web

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

const (
	// sessionTime is how long a login lasts.
	sessionTime = 8 * time.Hour
	// mostSessions is how many logins there are at most; the oldest end first.
	mostSessions = 1000
	// secureCookie is the name of the cookie over TLS: with this prefix a browser takes
	// it over TLS only, for this host alone and all of its paths. plainCookie is the
	// name in clear, which only loopback addresses and the token to look have.
	secureCookie, plainCookie = "__Host-stsrelay", "stsrelay"
)

// role is what a client may do.
type role int

const (
	nobody role = iota
	looks       // see the pages
	acts        // and change something
)

// session is a login. Sessions are in memory only: a restart ends them.
type session struct {
	role    role
	expires time.Time
	done    string // what the last action did; the next page shows it
}

// sessions are the logins by the hash of their secret.
type sessions struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]*session
}

// open begins a session and returns its secret.
func (s *sessions) open(r role, now time.Time) string {
	secret := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, old := range s.all {
		if now.After(old.expires) {
			delete(s.all, key)
		}
	}
	if len(s.all) >= mostSessions {
		s.endOldestLocked()
	}
	s.all[sha256.Sum256([]byte(secret))] = &session{role: r, expires: now.Add(sessionTime)}
	return secret
}

func (s *sessions) endOldestLocked() {
	var oldest *[sha256.Size]byte
	for key, one := range s.all {
		if oldest == nil || one.expires.Before(s.all[*oldest].expires) {
			oldest = &key
		}
	}
	delete(s.all, *oldest)
}

// role returns what the session of a secret may do.
func (s *sessions) role(secret string, now time.Time) role {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.all[sha256.Sum256([]byte(secret))]; one != nil && now.Before(one.expires) {
		return one.role
	}
	return nobody
}

// end ends the session of a secret.
func (s *sessions) end(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(secret)))
}

// setDone keeps what an action did for the next page of the session.
func (s *sessions) setDone(secret, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.all[sha256.Sum256([]byte(secret))]; one != nil {
		one.done = text
	}
}

// takeDone returns what the last action did, once.
func (s *sessions) takeDone(secret string) (text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.all[sha256.Sum256([]byte(secret))]; one != nil {
		text, one.done = one.done, ""
	}
	return text
}

// cookieName returns the name of the cookie for a request. A request in clear on
// loopback that names another host came through a proxy on this machine, which has TLS
// if the cookie is to work.
func cookieName(r *http.Request) string {
	if r.TLS != nil || onLoopback(r) && !isLoopback(r.Host) {
		return secureCookie
	}
	return plainCookie
}

// secretOf returns the secret that a request shows, "" for none.
func secretOf(r *http.Request) string {
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return ""
	}
	return c.Value
}

// newCookie returns the cookie of a session; an empty secret takes it away.
func newCookie(r *http.Request, secret string) *http.Cookie {
	name := cookieName(r)
	c := &http.Cookie{ //nolint:gosec // Secure where there is TLS
		Name: name, Value: secret, Path: "/", MaxAge: int(sessionTime / time.Second), HttpOnly: true, Secure: name == secureCookie, SameSite: http.SameSiteStrictMode,
	}
	if secret == "" {
		c.MaxAge = -1
	}
	return c
}
