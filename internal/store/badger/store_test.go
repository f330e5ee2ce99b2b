package badger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stsrelay/stsrelay/internal/badgerfile"
	"github.com/stsrelay/stsrelay/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func key(i int) []byte { return binary.BigEndian.AppendUint32([]byte("k"), uint32(i)) }

func get(t *testing.T, s *Store, k []byte) []byte {
	t.Helper()
	v, err := store.Get(s, k)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func commit(t *testing.T, s *Store, b *store.Batch) {
	t.Helper()
	if err := store.Commit(t.Context(), s, b); err != nil {
		t.Fatal(err)
	}
}

// A key that the check at the next start would take for damage is refused.
func TestAKeyThatIsTooLongIsRefused(t *testing.T) {
	s := open(t, Options{})
	var long, longest store.Batch
	long.Set(make([]byte, badgerfile.MaxKey+1), []byte("x"))
	longest.Set(make([]byte, badgerfile.MaxKey), []byte("x"))
	if err := store.Commit(t.Context(), s, &long); err == nil || s.Err() != nil {
		t.Errorf("%v, the store: %v", err, s.Err())
	}
	commit(t, s, &longest)
}

// block keeps the committer inside a transaction until release is called, so that
// batches submitted meanwhile share the next group.
func block(s *Store) (release func()) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var b store.Batch
	var once sync.Once
	b.Update([]byte("block"), func([]byte) []byte {
		once.Do(func() { close(entered) })
		<-leave
		return []byte("x")
	})
	s.Submit(&b, nil)
	<-entered
	return func() { close(leave) }
}

func TestBatchesOfOneGroupAreAppliedInOrderAndUpdateSeesThoseBefore(t *testing.T) {
	var commits atomic.Int64
	s := open(t, Options{Committed: func(int, time.Duration) { commits.Add(1) }})
	release := block(s)
	before := commits.Load()
	var order []int
	for i := range 50 {
		var b store.Batch
		b.Update([]byte("list"), func(old []byte) []byte { return append(slices.Clone(old), byte(i)) })
		s.Submit(&b, func(err error) {
			if err != nil {
				t.Error(err)
			}
			order = append(order, i)
		})
	}
	release()
	commit(t, s, new(store.Batch))
	got := get(t, s, []byte("list"))
	for i := range 50 {
		if int(got[i]) != i || order[i] != i {
			t.Fatalf("order of the updates %v, of the answers %v", got, order)
		}
	}
	if n := commits.Load() - before; n > 10 {
		t.Errorf("50 waiting batches took %d transactions", n)
	}
}

func TestABatchThatBadgerRefusesChangesNothingAndSparesItsGroup(t *testing.T) {
	s := open(t, Options{})
	release := block(s)
	answers := make([]error, 3)
	for i := range answers {
		var b store.Batch
		b.Set(key(i), []byte("v"))
		if i == 1 {
			b.Set(nil, []byte("an empty key"))
		}
		s.Submit(&b, func(err error) { answers[i] = err })
	}
	release()
	commit(t, s, new(store.Batch))
	if answers[0] != nil || answers[1] == nil || answers[2] != nil {
		t.Errorf("answers %v", answers)
	}
	if get(t, s, key(0)) == nil || get(t, s, key(1)) != nil || get(t, s, key(2)) == nil {
		t.Error("not all or nothing")
	}
	if s.Err() != nil {
		t.Errorf("the store has failed: %v", s.Err())
	}
}

func TestABatchIsWrittenOnlyIfItsCheckAgreesAtThatMoment(t *testing.T) {
	s := open(t, Options{})
	refused := errors.New("no")
	var verdict error
	var b store.Batch
	b.Set(key(1), []byte("v"))
	b.Precondition(func() error { return verdict })
	verdict = refused
	if err := store.Commit(t.Context(), s, &b); !errors.Is(err, refused) || get(t, s, key(1)) != nil {
		t.Errorf("answer %v, value %q", err, get(t, s, key(1)))
	}
	verdict = nil
	if err := store.Commit(t.Context(), s, &b); err != nil || get(t, s, key(1)) == nil {
		t.Errorf("answer %v", err)
	}
}

func TestDeletingByUpdateAndReadingWhatIsNotThere(t *testing.T) {
	s := open(t, Options{})
	if err := store.Put(t.Context(), s, key(1), nil); err != nil {
		t.Fatal(err)
	}
	if v := get(t, s, key(1)); v == nil || len(v) != 0 {
		t.Errorf("an empty value came back as %v", v)
	}
	var b store.Batch
	b.Update(key(1), func(old []byte) []byte { return nil })
	commit(t, s, &b)
	if v := get(t, s, key(1)); v != nil {
		t.Errorf("still there: %v", v)
	}
	if err := store.Remove(t.Context(), s, key(2)); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
}

func TestScanGoesInOrderFromAKeyAndStops(t *testing.T) {
	s := open(t, Options{})
	var b store.Batch
	for i := range 10 {
		b.Set(key(i), []byte{byte(i)})
	}
	b.Set([]byte("z"), []byte("other prefix"))
	commit(t, s, &b)
	var got []byte
	err := s.Scan([]byte("k"), key(3), func(_, v []byte) error {
		if v[0] == 8 {
			return store.Stop
		}
		got = append(got, v[0])
		return nil
	})
	if err != nil || !bytes.Equal(got, []byte{3, 4, 5, 6, 7}) {
		t.Errorf("%v, %v", got, err)
	}
	n := 0
	if err := s.ScanKeys([]byte("k"), nil, func([]byte) error { n++; return nil }); err != nil || n != 10 {
		t.Errorf("%d keys, %v", n, err)
	}
}

func TestChangesAfterCloseAreRefusedAndThoseBeforeAreWritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	answers := make(chan error, 100)
	for i := range 100 {
		var b store.Batch
		b.Set(key(i), []byte("v"))
		s.Submit(&b, func(err error) { answers <- err })
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Put(t.Context(), s, key(1), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	s = open(t, Options{Dir: dir})
	for i := range 100 {
		if get(t, s, key(i)) == nil {
			t.Fatalf("key %d is lost", i)
		}
	}
}

func TestAnErrorThatBadgerOnlyLogsFailsThatCommitAndAllLaterOnes(t *testing.T) {
	s := open(t, Options{})
	var b store.Batch
	b.Update(key(1), func([]byte) []byte { // during the commit, like a failed msync
		s.failure.Errorf("Error while curlf sync: %v\n", errors.New("input/output error"))
		return []byte("v")
	})
	if err := store.Commit(t.Context(), s, &b); !errors.Is(err, store.ErrFailed) || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("acknowledged with %v", err)
	}
	var patient store.Batch
	patient.RetryWhenFull()
	patient.Set(key(2), nil)
	if err := store.Commit(t.Context(), s, &patient); !errors.Is(err, store.ErrFailed) || get(t, s, key(2)) != nil {
		t.Errorf("the commit after it: %v", err)
	}
	if !errors.Is(s.Err(), store.ErrFailed) || !s.Stalled() {
		t.Errorf("Err %v, stalled %v", s.Err(), s.Stalled())
	}
}

func TestCommitReturnsWhenItsContextEnds(t *testing.T) {
	s := open(t, Options{})
	release := block(s)
	defer release()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("client gone")
	cancel(gone)
	if err := store.Put(ctx, s, key(1), nil); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestManyWritersAtOnceLoseNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := range 20 {
				var b store.Batch
				b.Set(key(w*100+i), bytes.Repeat([]byte{byte(w)}, 2000))
				b.Update([]byte("count"), func(old []byte) []byte {
					n := uint32(0)
					if old != nil {
						n = binary.BigEndian.Uint32(old)
					}
					return binary.BigEndian.AppendUint32(nil, n+1)
				})
				if err := store.Commit(context.Background(), s, &b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.Close()
	s = open(t, Options{Dir: dir})
	if n := binary.BigEndian.Uint32(get(t, s, []byte("count"))); n != 64*20 {
		t.Errorf("%d changes counted", n)
	}
	n := 0
	err := s.Scan([]byte("k"), nil, func(k, v []byte) error {
		if len(v) != 2000 || int(v[0]) != int(binary.BigEndian.Uint32(k[1:]))/100 {
			t.Errorf("key %x has a wrong value", k)
		}
		n++
		return nil
	})
	if err != nil || n != 64*20 {
		t.Errorf("%d values, %v", n, err)
	}
}

func TestALargeBodyAndManyDeletesGoThrough(t *testing.T) {
	s := open(t, Options{})
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	const chunks = 800 // 200 MiB
	slots := make(chan struct{}, 8)
	for i := range chunks {
		slots <- struct{}{}
		var b store.Batch
		b.Set(key(i), chunk)
		s.Submit(&b, func(err error) {
			if err != nil {
				t.Error(err)
			}
			<-slots
		})
	}
	commit(t, s, new(store.Batch))
	if !bytes.Equal(get(t, s, key(chunks-1)), chunk) {
		t.Error("the last chunk is not what was written")
	}
	var del store.Batch
	for i := range 2000 {
		del.Delete(key(i))
	}
	commit(t, s, &del)
	if err := s.ScanKeys([]byte("k"), nil, func(k []byte) error { return fmt.Errorf("%x is still there", k) }); err != nil {
		t.Error(err)
	}
	if n := s.space.inFlight.Load(); n != 0 {
		t.Errorf("%d bytes are still counted as in flight", n)
	}
}

func TestOpenRefusesWithWords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := t.TempDir()
	open(t, Options{Dir: used})
	for _, row := range []struct {
		name, want string
		o          Options
	}{
		{"a folder that another process uses", "in use by another process", Options{Dir: used}},
		{"a folder that is a file", "make the store's folder", Options{Dir: file}},
		{"a folder that cannot be written", "cannot be written", Options{Dir: "/proc/self"}},
		{"a full disk", "free some space and start again", Options{Dir: t.TempDir(), Free: func(string) (int64, error) { return store.Floor - 1, nil }}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := Open(row.o)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
