package relay

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/stsrelay/stsrelay/relay/ingress"
)

// nobody is a hash that no password has. It is compared where the user is not
// known, so that the time taken does not tell who exists.
const nobody = "$2a$10$x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e"

// authenticate checks a name and a password.
func (r *Relay) authenticate(_ context.Context, name, password string) (ingress.User, bool) {
	hash, known := nobody, ingress.User{}
	for _, u := range r.config.Load().Users {
		if strings.EqualFold(u.Name, name) {
			hash, known = u.PasswordHash, ingress.User{Name: u.Name, SenderDomains: domains(u.SenderDomains)}
		}
	}
	return known, r.known.match(hash, password) && known.Name != ""
}

// passwords remembers which passwords were right. A bcrypt hash is made to be
// slow, and a mail server that makes a session for each message would spend
// more time on its password than on its mail. What is kept is worth nothing
// outside this process: a MAC under a key that was made at its start.
type passwords struct {
	mu    sync.Mutex
	key   []byte
	right map[string][]byte // by hash
}

// match compares a password with a hash. One that is not the right one costs the
// whole comparison, every time.
func (p *passwords) match(hash, password string) bool {
	mac := p.mac(hash, password)
	p.mu.Lock()
	right := hmac.Equal(p.right[hash], mac)
	p.mu.Unlock()
	if right {
		return true
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.right) >= maxRemembered {
		clear(p.right) // hashes of before some reloads
	}
	p.right[hash] = mac
	return true
}

const maxRemembered = 1000

func (p *passwords) mac(hash, password string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key == nil {
		p.key = make([]byte, sha256.Size)
		_, _ = rand.Read(p.key) // never fails
		p.right = make(map[string][]byte)
	}
	m := hmac.New(sha256.New, p.key)
	m.Write([]byte(hash + "\x00" + password))
	return m.Sum(nil)
}
