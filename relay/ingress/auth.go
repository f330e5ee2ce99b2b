package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

const (
	// maxAuthAttempts is how often a session may try.
	maxAuthAttempts = 3
	// maxAuthDelay bounds the growing wait, failureMemory how long wrong
	// passwords of an address count.
	maxAuthDelay  = 30 * time.Second
	failureMemory = 15 * time.Minute
)

// AuthMechanisms implements smtp.AuthSession: passwords go over TLS only.
func (s *session) AuthMechanisms() []string {
	if !s.listener.rule().Auth || s.conn.tls == nil {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
}

// Auth implements smtp.AuthSession.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch {
	case !s.listener.rule().Auth:
		return nil, s.refuse(reply(503, 5, 5, 1, "AUTH is not offered here"))
	case s.conn.tls == nil:
		return nil, s.refuse(reply(538, 5, 7, 11, "AUTH needs TLS: use STARTTLS first"))
	case s.receiving:
		return nil, s.refuse(reply(503, 5, 5, 1, "AUTH is not allowed inside a transaction"))
	case s.attempts >= maxAuthAttempts:
		return nil, s.refuse(reply(421, 4, 7, 0, "too many tries"))
	}
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, name, password string) error {
			if identity != "" && identity != name {
				return s.refuse(reply(535, 5, 7, 8, "another identity than the user's own is not allowed"))
			}
			return s.authenticate(name, password)
		}), nil
	case sasl.Login:
		return &loginServer{authenticate: s.authenticate}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// authenticate checks a password. A wrong one costs time, more each time for
// the same address.
func (s *session) authenticate(name, password string) error {
	s.attempts++
	users := s.server.rules.Load().Users
	if users != nil && users(context.Background(), name, password) {
		s.server.rightPassword(s.conn.remote)
		s.user = name
		return nil
	}
	delay := s.server.wrongPassword(s.conn.remote)
	s.server.log.Warn("AUTH failed", "client", s.conn.remote.String(), "user", name, "delay", delay)
	select {
	case <-time.After(delay):
	case <-s.server.ctx().Done():
	}
	if s.attempts >= maxAuthAttempts {
		s.conn.fail(io.EOF)
	}
	return s.refuse(reply(535, 5, 7, 8, "the user name or the password is wrong"))
}

func (s *Server) rightPassword(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.clients[a]; k != nil {
		k.failures = 0
	}
}

func (s *Server) wrongPassword(a netip.Addr) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.clients[a]
	if k == nil {
		return maxAuthDelay
	}
	if time.Since(k.lastFailure) > failureMemory {
		k.failures = 0
	}
	delay := min(s.rules.Load().Limits.AuthDelay<<min(k.failures, 10), maxAuthDelay)
	k.failures++
	k.lastFailure = time.Now()
	return delay
}

// withinRate counts a message of a client and says whether it may send it.
func (s *Server) withinRate(a netip.Addr) bool {
	limit := s.limits().Rate
	if limit == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.clients[a]
	if k == nil {
		return true
	}
	if now := time.Now(); now.Sub(k.minute) >= time.Minute {
		k.minute, k.messages = now, 0
	}
	k.messages++
	return k.messages <= limit
}

// loginServer is the server side of AUTH LOGIN, which go-sasl does not have: a
// user name and a password, each asked for by its name.
type loginServer struct {
	authenticate func(name, password string) error
	name         []byte
	step         int
}

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if l.step == 0 {
		l.step = 1
		if response == nil {
			return []byte("Username:"), false, nil
		}
	}
	if l.step == 1 {
		l.step = 2
		l.name = bytes.Clone(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.authenticate(string(l.name), string(response))
}

func tlsName(s *tls.ConnectionState) string { return tls.VersionName(s.Version) }
