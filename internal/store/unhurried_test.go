package store

import (
	"testing"
	"time"
)

func TestWhatNobodyWaitsForWaitsForOthers(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, new(Batch)) // the committer has nothing to do
	s.lingers = time.Hour
	before := s.Stats()
	results := make(chan error, 3)
	for i := range 3 {
		var b Batch
		b.Unhurried()
		b.Set(key(i), []byte("result"))
		s.Submit(&b, func(err error) { results <- err })
	}
	if n := len(results); n != 0 {
		t.Fatalf("%d were committed by themselves", n)
	}
	var b Batch
	b.Set(key(3), []byte("waits"))
	commit(t, s, &b)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if after := s.Stats(); after.Commits != before.Commits+1 || after.Batches != before.Batches+4 {
		t.Errorf("%+v, then %+v: they did not share a commit", before, after)
	}
}

func TestWhatNobodyWaitsForIsCommittedByItselfAndAtClose(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	submit := func(k int) chan error {
		done := make(chan error, 1)
		var b Batch
		b.Unhurried()
		b.Set(key(k), []byte("result"))
		s.Submit(&b, func(err error) { done <- err })
		return done
	}
	if err := <-submit(1); err != nil { // soon
		t.Error(err)
	}
	s.lingers = time.Hour
	last := submit(2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-last; err != nil {
		t.Errorf("at Close: %v", err)
	}
}
