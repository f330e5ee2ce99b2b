package relay

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/stsrelay/stsrelay/relay/ingress"
)

// nobody is a hash that no password has. It is compared where the user is not
// known, so that the time taken does not tell who exists.
const nobody = "$2a$10$x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e"

func (r *Relay) authenticate(_ context.Context, name, password string) (ingress.User, bool) {
	hash, known := nobody, ingress.User{}
	for _, u := range r.config.Load().Users {
		if strings.EqualFold(u.Name, name) {
			hash, known = u.PasswordHash, ingress.User{Name: u.Name, SenderDomains: u.SenderDomains}
		}
	}
	return known, r.passwords.match(hash, password) && known.Name != ""
}

const (
	// passwordMemory is how long it is remembered that a password was right.
	passwordMemory = 10 * time.Minute
	// maxPasswords bounds how many are.
	maxPasswords = 1000
)

// passwords compares passwords with bcrypt hashes. That takes a good part of a
// second's CPU time on purpose, and a mail server that logs in for every message
// would keep a core busy with it: so that a password was right is remembered, by
// a digest that is worth nothing outside this process. Wrong ones are compared
// every time.
type passwords struct {
	key [32]byte

	mu    sync.Mutex
	right map[[sha256.Size]byte]time.Time // until when
}

func newPasswords() *passwords {
	p := &passwords{right: make(map[[sha256.Size]byte]time.Time)}
	_, _ = rand.Read(p.key[:]) // it does not fail
	return p
}

func (p *passwords) match(hash, password string) bool {
	mac := hmac.New(sha256.New, p.key[:])
	mac.Write([]byte(hash)) // of a fixed length
	mac.Write([]byte(password))
	digest := [sha256.Size]byte(mac.Sum(nil))
	now := time.Now()
	p.mu.Lock()
	known := now.Before(p.right[digest])
	p.mu.Unlock()
	if known {
		return true
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.right) >= maxPasswords {
		clear(p.right)
	}
	p.right[digest] = now.Add(passwordMemory)
	return true
}
