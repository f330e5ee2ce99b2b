package ingress

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestARightPasswordIsRememberedForItsHashOnly(t *testing.T) {
	hash := func(password string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	p := NewPasswords(nil)
	old, other := hash("secret"), hash("changed")
	for range 2 {
		for _, tt := range []struct {
			hash, password string
			want           bool
		}{{old, "secret", true}, {old, "Secret", false}, {other, "secret", false}, {other, "changed", true}, {old, "", false}, {nobodyOf(4), "secret", false}} {
			if got := p.match(tt.hash, tt.password); got != tt.want {
				t.Errorf("%q for %s: %t", tt.password, tt.hash, got)
			}
		}
	}
	if len(p.right) != 2 {
		t.Errorf("%d are remembered", len(p.right))
	}
}

// The cost of a wrong password is counted in rounds of bcrypt, which the load of the
// machine does not change.
func TestAWrongPasswordCostsTheSameForEveryUserAndForNobody(t *testing.T) {
	for _, most := range []int{bcrypt.DefaultCost, 12, 14} {
		for cost := bcrypt.MinCost; cost <= most; cost++ {
			work := 1 << cost
			for _, c := range missingCosts(nobodyOf(cost), most) {
				work += 1 << c
			}
			if work != 1<<most {
				t.Errorf("a hash of cost %d beside one of %d: %d rounds, want %d", cost, most, work, 1<<most)
			}
		}
	}
	for cost := bcrypt.MinCost; cost <= 12; cost++ {
		if got, err := bcrypt.Cost([]byte(nobodyOf(cost))); err != nil || got != cost {
			t.Errorf("cost %d: %d, %v", cost, got, err)
		}
	}
	// A hash that bcrypt does not take would be compared in no time.
	if err := bcrypt.CompareHashAndPassword([]byte(nobodyOf(bcrypt.MinCost)), []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Error(err)
	}
}

func TestAuthenticateComparesWithTheCostliestHash(t *testing.T) {
	hash := func(cost int) string {
		h, err := bcrypt.GenerateFromPassword([]byte("secret"), cost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	p := NewPasswords([]Account{{User{Name: "old"}, hash(bcrypt.MinCost)}, {User{Name: "new"}, hash(10)}})
	// The fastest of some, so that a busy machine does not matter.
	took := func(name string) time.Duration {
		best := time.Hour
		for range 5 {
			start := time.Now()
			if _, ok := p.Authenticate(t.Context(), name, "wrong"); ok {
				t.Fatal(name)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	// A machine that is busy at one of the times says nothing: a difference that is there
	// is there each time.
	var differs string
	for range 5 {
		base := took("new")
		differs = ""
		for _, name := range []string{"old", "nobody"} {
			if d := took(name); d < base/2 || d > 2*base {
				differs += fmt.Sprintf("%s: %s, and the user with the costliest hash %s; ", name, d, base)
			}
		}
		if differs == "" {
			break
		}
	}
	if differs != "" {
		t.Error(differs)
	}
	for _, name := range []string{"old", "NEW"} {
		if u, ok := p.Authenticate(t.Context(), name, "secret"); !ok || !strings.EqualFold(u.Name, name) {
			t.Errorf("%s: %+v, %t", name, u, ok)
		}
	}
	if _, ok := p.Authenticate(t.Context(), "", "secret"); ok {
		t.Error("no name is a user")
	}
}
