package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

const (
	// maxAuthAttempts is how many passwords a session may try.
	maxAuthAttempts = 3
	// maxAuthDelay bounds the delay of the reply to a wrong password.
	maxAuthDelay = 30 * time.Second
	// refusalsAtATime is how many TLS handshakes are made at the same time only to
	// refuse a client.
	refusalsAtATime = 50
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
// the same address; after some of them the address gets one try at a time.
func (s *session) authenticate(name, password string) error {
	s.attempts++
	user, out := s.tryPassword(name, password)
	switch {
	case out.right:
		s.server.recognize(s.conn)
		s.user = user
		return nil
	case out.unchecked:
		return s.refuse(reply(454, 4, 7, 0, "too many passwords are waiting to be checked; try again later"))
	case out.wait > 0:
		s.lastAttempt()
		return s.refuse(reply(454, 4, 7, 0, "too many wrong passwords came from %s; try again in %d seconds", s.conn.remote, int(out.wait.Seconds())+1))
	}
	s.server.log.Warn("AUTH failed", append(s.conn.who(), "user", name, "delay_seconds", out.delay.Seconds())...)
	select {
	case <-time.After(out.delay):
	case <-s.server.ctx().Done():
	}
	s.lastAttempt()
	return s.refuse(reply(535, 5, 7, 8, "the user name or the password is wrong"))
}

// passwordResult is the outcome of one try.
type passwordResult struct {
	right     bool
	unchecked bool          // its turn did not come in time, or the relay stops
	wait      time.Duration // over 0: the password was not checked, and none is for so long
	delay     time.Duration // before a wrong one is answered
}

// tryPassword checks a password after all that came from the same address before.
// So many tries at once have no more of them without a delay than tries one after
// the other. A stranger does not wait for longer than it may take to log in.
func (s *session) tryPassword(name, password string) (User, passwordResult) {
	ctx, cancel := context.WithDeadline(s.server.ctx(), s.conn.until(s.server.limits().SessionTime))
	defer cancel()
	turn := s.server.turnOf(s.conn.remote)
	if !turn.enter(ctx) {
		return User{}, passwordResult{unchecked: true}
	}
	defer turn.leave()
	if wait := s.server.passwordWait(s.conn.remote); wait > 0 {
		return User{}, passwordResult{wait: wait}
	}
	checking := s.server.checking
	if s.conn.stranger {
		checking = s.server.checkingStrangers
	}
	if users := s.server.rules.Load().Users; users != nil {
		if !checking.enter(ctx) {
			return User{}, passwordResult{unchecked: true}
		}
		user, right := users(s.server.ctx(), name, password)
		checking.leave()
		if right {
			s.server.rightPassword(s.conn.remote)
			return user, passwordResult{right: true}
		}
	}
	return User{}, passwordResult{delay: s.server.wrongPassword(s.conn.remote)}
}

// lastAttempt ends the session after maxAuthAttempts tries.
func (s *session) lastAttempt() {
	if s.attempts >= maxAuthAttempts {
		s.conn.endSession("421 4.7.0 too many wrong passwords; goodbye")
	}
}

// semaphore bounds how many expensive operations that strangers can ask for run
// at the same time, such as the check of a password.
type semaphore chan struct{}

func (s semaphore) enter(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s semaphore) tryEnter() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s semaphore) leave() { <-s }

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
