package history

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAddressesAreKeptAsAsked(t *testing.T) {
	for _, row := range []struct {
		kept  Addresses
		found int // by the whole address
	}{{AddressesFull, 1}, {AddressesDomain, 0}, {AddressesHashed, 1}} {
		dir, c := t.TempDir(), newClock()
		l := open(t, dir, c, func(o *Options) { o.Addresses = row.kept })
		r := attempt("01A", "anna@sender.example", "kurt@a.example", "bounced")
		r.Error = "550 5.1.1 <kurt@a.example>: no such user"
		l.Add(r)
		if got := find(t, l, Query{To: "Kurt@a.example"}); len(got) != row.found {
			t.Errorf("%s: %d found by address", row.kept, len(got))
		}
		got := find(t, l, Query{Domain: "a.example"})
		if len(got) != 1 {
			t.Fatalf("%s: %+v", row.kept, got)
		}
		line := got[0].line(nil)
		if has := bytes.Contains(line, []byte("kurt@")) || bytes.Contains(line, []byte("anna@")); has != (row.kept == AddressesFull) {
			t.Errorf("%s: %s", row.kept, line)
		}
	}
}

func TestForget(t *testing.T) {
	for _, kept := range []Addresses{AddressesFull, AddressesHashed} {
		dir, c := t.TempDir(), newClock()
		l := open(t, dir, c, func(o *Options) { o.Addresses = kept })
		l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
		l.Add(attempt("01B", "anna@sender.example", "lisa@a.example", "delivered"))
		c.advance(24 * time.Hour)
		l.Add(attempt("01C", "kurt@a.example", "lisa@a.example", "delivered"))
		if n, err := l.Forget(t.Context(), "KURT@a.example", true); n != 2 || err != nil {
			t.Fatalf("dry run: %d, %v", n, err)
		}
		if got := find(t, l, Query{To: "kurt@a.example"}); len(got) != 1 {
			t.Fatalf("after the dry run: %+v", got)
		}
		if n, err := l.Forget(t.Context(), "KURT@a.example", false); n != 2 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		l.Add(attempt("01D", "anna@sender.example", "kurt@a.example", "delivered"))
		if got := ids(find(t, l, Query{To: "kurt@a.example"})); got != "01D" {
			t.Errorf("%q is found", got)
		}
		if got := ids(find(t, l, Query{Kinds: []Kind{Attempt}, OldestFirst: true})); got != "01A 01B 01C 01D" {
			t.Errorf("%q", got)
		}
		for _, name := range []string{"2026-11-27", "2026-11-28"} {
			day, _ := time.Parse(time.DateOnly, name)
			if _, whole, err := l.Chain(t.Context(), day); err != nil || !whole {
				t.Errorf("%s: the chain is whole: %v, %v", name, whole, err)
			}
		}
		if got := find(t, l, Query{Kinds: []Kind{Forgot}}); len(got) != 2 || got[0].Lines != 1 {
			t.Errorf("%+v", got)
		}
	}
}

// A file that was being written anew when the process was killed does not stay: nobody would
// take an address out of it.
func TestAFileOfAForgetThatWasCutOffIsDeleted(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "2026-11-27"+fileSuffix+newSuffix)
	if err := os.WriteFile(name, []byte("half a day"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir, newClock())
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file after a start: %v", err)
	}
}
