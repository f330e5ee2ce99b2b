package badger

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
)

func TestAChangeSeesWhatCameBeforeAndIsMadeWholeOrNotAtAll(t *testing.T) {
	s := open(t, Options{})
	number := func(data []byte) uint64 {
		if data == nil {
			return 0
		}
		return binary.BigEndian.Uint64(data)
	}
	add := func(b *store.Batch, fail error) {
		b.Do(2, 16, func(txn store.Txn) error {
			for _, k := range []string{"a", "b"} {
				old, err := txn.Get([]byte(k))
				if err != nil {
					return err
				}
				if err := txn.Set([]byte(k), binary.BigEndian.AppendUint64(nil, number(old)+1)); err != nil {
					return err
				}
			}
			return fail
		})
	}
	release := block(s)
	broken := errors.New("broken")
	answers := make(chan error, 10)
	for i := range 10 {
		var b store.Batch
		add(&b, nil)
		var fail error
		if i == 4 {
			fail = broken
		}
		add(&b, fail)
		s.Submit(&b, func(err error) { answers <- err })
	}
	release()
	failed := 0
	for range 10 {
		if err := <-answers; errors.Is(err, broken) {
			failed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if a, b := number(get(t, s, []byte("a"))), number(get(t, s, []byte("b"))); failed != 1 || a != 18 || b != 18 {
		t.Errorf("%d failed, a = %d, b = %d", failed, a, b)
	}
}

func TestTheEpochChangesWhenChangesWereNotWritten(t *testing.T) {
	s := open(t, Options{})
	epoch := func() (n int) {
		var b store.Batch
		b.Do(1, 16, func(txn store.Txn) error { n = txn.Epoch(); return nil })
		commit(t, s, &b)
		return n
	}
	before := epoch()
	if epoch() != before {
		t.Error("it changes without need")
	}
	var b store.Batch
	b.Do(1, 16, func(store.Txn) error { return errors.New("no") })
	if err := store.Commit(t.Context(), s, &b); err == nil {
		t.Fatal("the commit was taken")
	}
	if epoch() == before {
		t.Error("it does not change")
	}
}
