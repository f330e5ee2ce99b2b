package relay

import (
	"testing"

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
	p := newPasswords()
	old, other := hash("secret"), hash("changed")
	for range 2 {
		for _, tt := range []struct {
			hash, password string
			want           bool
		}{{old, "secret", true}, {old, "Secret", false}, {other, "secret", false}, {other, "changed", true}, {old, "", false}, {nobody, "secret", false}} {
			if got := p.match(tt.hash, tt.password); got != tt.want {
				t.Errorf("%q for %s: %t", tt.password, tt.hash, got)
			}
		}
	}
	if len(p.right) != 2 {
		t.Errorf("%d are remembered", len(p.right))
	}
}
