package history

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAProcessThatWasKilledLeavesAGap(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	l := open(t, dir, c)
	l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "2026-11-27.jsonl.zst")
	sound, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l.Add(attempt("01B", "anna@sender.example", "kurt@a.example", "delivered"))
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(sound); cut <= len(whole); cut++ {
		for _, zeros := range []bool{false, true} { // true: the size was written before the octets
			killed := t.TempDir()
			data := bytes.Clone(whole[:cut])
			if zeros {
				data = append(data, make([]byte, len(whole)-cut)...)
			}
			if err := errors.Join(os.WriteFile(filepath.Join(killed, "2026-11-27.jsonl.zst"), data, 0o600), os.WriteFile(filepath.Join(killed, runningFile), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			k := open(t, killed, &clock{now: c.Now().Add(time.Minute)})
			k.Add(attempt("01C", "anna@sender.example", "kurt@a.example", "delivered"))
			got := find(t, k, Query{OldestFirst: true})
			want := "01A  01C"
			if cut == len(whole) {
				want = "01A 01B  01C"
			}
			if ids(got) != want {
				t.Fatalf("cut at %d of %d, zeros %v: %q", cut, len(whole), zeros, ids(got))
			}
			gap := got[len(got)-2]
			if gap.Kind != Gap || !gap.MissingFrom.Equal(c.Now()) || !gap.MissingTo.Equal(c.Now().Add(time.Minute)) {
				t.Fatalf("cut at %d: %+v", cut, gap)
			}
			if _, whole, err := k.Chain(t.Context(), c.Now()); err != nil || !whole {
				t.Fatalf("cut at %d: the chain is whole: %v, %v", cut, whole, err)
			}
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A process that is killed in its first second has written nothing.
func TestAProcessThatWroteNothingLeavesAGapFromItsStart(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	began := c.Now()
	killed := func() {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, runningFile), began.AppendFormat(nil, time.RFC3339Nano), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time, there is a record of the process before
		killed()
		c.advance(time.Minute)
		l := open(t, dir, c)
		l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
		got := find(t, l, Query{Kinds: []Kind{Gap}})
		if len(got) == 0 || !got[0].MissingFrom.Equal(began) || !got[0].MissingTo.Equal(c.Now()) {
			t.Fatalf("gaps: %+v", got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Hour)
		began = c.Now()
	}
}

// A gap is on the disk before anything else happens.
func TestAGapOutlivesTheNextKill(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	if err := os.WriteFile(filepath.Join(dir, runningFile), c.Now().AppendFormat(nil, time.RFC3339Nano), 0o600); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Second)
	open(t, dir, c)
	data, err := os.ReadFile(filepath.Join(dir, "2026-11-27.jsonl.zst"))
	if places, _, _, err := frames(bytes.NewReader(data), int64(len(data))); err != nil || len(places) != 1 {
		t.Errorf("%d frames, %v", len(places), err)
	}
	if err != nil {
		t.Error(err)
	}
}

// After a normal end there is no gap.
func TestAnOrdinaryEndLeavesNoGap(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	for range 2 {
		l := open(t, dir, c)
		l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := ids(find(t, open(t, dir, c), Query{})); got != "01A 01A" {
		t.Errorf("%q", got)
	}
}

// A history that is switched off is not written to, not even after a kill.
func TestAHistoryThatIsOffIsNotWritten(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	l := open(t, dir, c)
	l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
	if err := errors.Join(l.Close(), os.WriteFile(filepath.Join(dir, runningFile), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, c, func(o *Options) { o.Keep = 0 })
	l.Add(attempt("01B", "anna@sender.example", "kurt@a.example", "delivered"))
	if got := ids(find(t, l, Query{})); got != "01A" {
		t.Errorf("%q", got)
	}
}
