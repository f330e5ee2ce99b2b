package ingress

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// nobody is the end of a hash that no password has. The cost stands in front of it.
const nobody = "x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e"

// nobodyOf returns a hash of a cost that no password has.
func nobodyOf(cost int) string { return fmt.Sprintf("$2a$%02d$%s", cost, nobody) }

// Account is a user with the bcrypt hash of the password.
type Account struct {
	User
	PasswordHash string
}

// user returns the user who logs in with the account's password.
func (a Account) user() User {
	a.hash = a.PasswordHash
	return a.User
}

const (
	// passwordMemory is how long a right password is remembered.
	passwordMemory = 10 * time.Minute
	// maxPasswords bounds how many are.
	maxPasswords = 1000
)

// Passwords checks the passwords of accounts. To compare a password with a bcrypt
// hash takes a good part of a second's CPU time on purpose, and a mail server that
// logs in for every message would keep a core busy with it. So right passwords are
// remembered, by a digest that is worth nothing outside this process. Wrong ones are
// compared every time.
type Passwords struct {
	accounts atomic.Pointer[[]Account]
	key      [32]byte

	mu    sync.Mutex
	right map[[sha256.Size]byte]time.Time // until when
}

// NewPasswords returns the passwords of accounts.
func NewPasswords(accounts []Account) *Passwords {
	p := &Passwords{right: make(map[[sha256.Size]byte]time.Time)}
	_, _ = rand.Read(p.key[:]) // it does not fail
	p.Set(accounts)
	return p
}

// Set replaces the accounts.
func (p *Passwords) Set(accounts []Account) { p.accounts.Store(&accounts) }

// Authenticate returns the user with a name and password. A wrong password takes as
// long as the costliest hash of all accounts, whether there is such a user or not:
// the time tells neither which users exist nor whose hash is an old one.
func (p *Passwords) Authenticate(_ context.Context, name, password string) (User, bool) {
	hash, known, most := "", User{}, bcrypt.DefaultCost
	for _, a := range *p.accounts.Load() {
		if strings.EqualFold(a.Name, name) {
			hash, known = a.PasswordHash, a.user()
		}
		if cost, err := bcrypt.Cost([]byte(a.PasswordHash)); err == nil {
			most = max(most, cost)
		}
	}
	if hash == "" {
		hash = nobodyOf(most)
	}
	if p.match(hash, password) && known.Name != "" {
		return known, true
	}
	for _, cost := range missingCosts(hash, most) {
		_ = bcrypt.CompareHashAndPassword([]byte(nobodyOf(cost)), []byte(password))
	}
	return User{}, false
}

// Current returns a user who has logged in as the accounts have them now. It reports false
// where the account is gone, or has another password since.
func (p *Passwords) Current(u User) (User, bool) {
	for _, a := range *p.accounts.Load() {
		if strings.EqualFold(a.Name, u.Name) && a.PasswordHash == u.hash {
			return a.user(), true
		}
	}
	return User{}, false
}

// missingCosts returns the costs of the hashes that must be compared besides hash, so
// that all together take as long as one of cost most. Each step of the cost doubles
// the work: 2^c + 2^c + 2^(c+1) + … + 2^(most-1) = 2^most.
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

// match reports whether a password has a hash.
func (p *Passwords) match(hash, password string) bool {
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
