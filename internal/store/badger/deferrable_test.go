package badger

import (
	"slices"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

func TestWhatNobodyWaitsForWaitsForOthers(t *testing.T) {
	var commits []int // number of batches in each commit; safe to read after a commit was acknowledged
	s := open(t, Options{Committed: func(batches int, took time.Duration) {
		if took <= 0 {
			t.Errorf("a commit took %s", took)
		}
		commits = append(commits, batches)
	}})
	commit(t, s, new(store.Batch)) // after this the committer is idle
	s.lingers = time.Hour
	results := make(chan error, 3)
	for i := range 3 {
		var b store.Batch
		b.Deferrable()
		b.Set(key(i), []byte("result"))
		s.Submit(&b, func(err error) { results <- err })
	}
	if n := len(results); n != 0 {
		t.Fatalf("%d were committed by themselves", n)
	}
	var b store.Batch
	b.Set(key(3), []byte("waits"))
	commit(t, s, &b)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(commits, []int{1, 4}) {
		t.Errorf("commits of %v batches: they did not share one", commits)
	}
}

func TestWhatNobodyWaitsForIsCommittedByItselfAndAtClose(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	submit := func(k int) chan error {
		done := make(chan error, 1)
		var b store.Batch
		b.Deferrable()
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
