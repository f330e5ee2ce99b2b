package relay

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/stsrelay/stsrelay/relay/ingress"
)

// nobody is a hash that no password has, but for its cost, which stands in front.
const nobody = "x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e"

// nobodyOf is a hash of a cost that no password has.
func nobodyOf(cost int) string { return fmt.Sprintf("$2a$%02d$%s", cost, nobody) }

// authenticate checks a user's password. What is wrong takes as long as the
// costliest hash of the configuration, whoever the user is: the time taken tells
// neither who exists nor whose hash is an old one.
func (r *Relay) authenticate(_ context.Context, name, password string) (ingress.User, bool) {
	hash, known, most := "", ingress.User{}, bcrypt.DefaultCost
	for _, u := range r.config.Load().Users {
		if strings.EqualFold(u.Name, name) {
			hash, known = u.PasswordHash, ingress.User{Name: u.Name, SenderDomains: u.SenderDomains}
		}
		if cost, err := bcrypt.Cost([]byte(u.PasswordHash)); err == nil {
			most = max(most, cost)
		}
	}
	if hash == "" {
		hash = nobodyOf(most)
	}
	if r.passwords.match(hash, password) && known.Name != "" {
		return known, true
	}
	for _, cost := range missingCosts(hash, most) {
		_ = bcrypt.CompareHashAndPassword([]byte(nobodyOf(cost)), []byte(password))
	}
	return ingress.User{}, false
}

// missingCosts are those of the hashes that have to be compared beside hash, so
// that it takes as long as one of cost most. Each step of the cost doubles the
// work: 2^c + 2^c + 2^(c+1) + … + 2^(most-1) = 2^most.
func missingCosts(hash string, most int) (out []int) {
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil {
		return nil
	}
	for ; cost < most; cost++ {
		out = append(out, cost)
	}
	return out
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
