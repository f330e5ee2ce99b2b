package acme

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/stsrelay/stsrelay/internal/store/memory"
)

func TestTheStorageIsThatOfCertmagic(t *testing.T) {
	place := &memory.Place{}
	s := newStorage(place.Open())
	ctx := t.Context()
	for _, key := range []string{"acme/ca/users/default/default.json", "acme/ca/users/default/default.key", "certificates/ca/a.example/a.example.crt", "certificates/ca2/b"} {
		if err := s.Store(ctx, key, []byte("value of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := s.Load(ctx, "certificates/ca2/b"); err != nil || string(v) != "value of certificates/ca2/b" {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := s.Load(ctx, "certificates"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, tt := range []struct {
		path      string
		recursive bool
		want      string
	}{
		{"acme/ca/users", false, "acme/ca/users/default"},
		{"certificates/ca", false, "certificates/ca/a.example"},
		{"certificates/ca", true, "certificates/ca/a.example certificates/ca/a.example/a.example.crt"},
		{"", false, "acme certificates"},
	} {
		got, err := s.List(ctx, tt.path, tt.recursive)
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.path, got, err, tt.want)
		}
	}
	if _, err := s.List(ctx, "none", false); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	file, err := s.Stat(ctx, "certificates/ca2/b")
	folder, err2 := s.Stat(ctx, "certificates/ca")
	if err != nil || err2 != nil || !file.IsTerminal || folder.IsTerminal || time.Since(file.Modified) > time.Minute || file.Size != int64(len("value of certificates/ca2/b")) {
		t.Errorf("%+v %v, %+v %v", file, err, folder, err2)
	}
	if err := s.Delete(ctx, "certificates/ca"); err != nil || s.Exists(ctx, "certificates/ca") || !s.Exists(ctx, "certificates/ca2") {
		t.Error("a folder is deleted as a whole, and no other", err)
	}
}

func TestOneHoldsALock(t *testing.T) {
	s := newStorage((&memory.Place{}).Open())
	if err := s.Lock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Lock(short, "a"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	got := make(chan error, 1)
	go func() { got <- s.Lock(t.Context(), "a") }()
	if err := s.Unlock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestCAA(t *testing.T) {
	ours := []string{"letsencrypt.org"}
	for _, tt := range []struct {
		name    string
		records []CAA
		says    string
	}{
		{"us", []CAA{{"issue", "letsencrypt.org"}}, ""},
		{"us among others, with an account", []CAA{{"issue", "digicert.com"}, {"issue", " LetsEncrypt.org ; accounturi=https://x/1"}}, ""},
		{"another one", []CAA{{"issue", "digicert.com"}}, "CAA of example.net allows digicert.com only"},
		{"nobody", []CAA{{"issue", ";"}}, "allows nobody"},
		{"wildcards are another matter", []CAA{{"issuewild", ";"}, {"iodef", "mailto:a@b"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := judgeCAA("example.net", tt.records, ours)
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

// An order that failed is not made again so soon that the authority would lock the name.
func TestTheWaitAfterFailures(t *testing.T) {
	refused := acme.Problem{Type: acme.ProblemTypeUnauthorized, Detail: "no"}
	n := &name{}
	var got []time.Duration
	for range 6 {
		got = append(got, n.wait(refused))
	}
	if want := append(slices.Clone(waits), waits[len(waits)-1]); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if w := (&name{}).wait(acme.Problem{Type: acme.ProblemTypeRateLimited}); w != rateLimited {
		t.Error(w)
	}
	if w := n.wait(&notReadyError{errors.New("it leads elsewhere")}); w != lookAgain {
		t.Error("what costs the authority nothing is looked at soon:", w)
	}
	text, byAuthority := explain(refused)
	if !byAuthority || text != "the authority refused (unauthorized: no)" {
		t.Error(text)
	}
}
