package relay

import (
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestPasswords(t *testing.T) {
	hash := func(password string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	one, other := hash("secret"), hash("secret")
	var p passwords
	for range 2 { // the second time it is known
		for _, tt := range []struct {
			hash, password string
			want           bool
		}{
			{one, "secret", true}, {one, "Secret", false}, {one, "", false},
			{other, "wrong", false}, {nobody, "secret", false}, {nobody, "", false}, {"no hash", "secret", false},
		} {
			if got := p.match(tt.hash, tt.password); got != tt.want {
				t.Errorf("%s %q: %t", tt.hash, tt.password, got)
			}
		}
	}
	if p.match(other, "secret") != true {
		t.Error("the same password under another hash")
	}
	cost := func(password string) time.Duration {
		start := time.Now()
		p.match(one, password)
		return time.Since(start)
	}
	if right, wrong := cost("secret"), cost("wrong"); right > wrong/10 {
		t.Errorf("the right password takes %s again, a wrong one %s", right, wrong)
	}
}
