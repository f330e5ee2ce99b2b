package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
)

func TestABodyComesBackAsItWasWrittenWhateverItsSize(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 5*chunkSize + 17} {
		body := bytes.Repeat([]byte("0123456789\r\n"), size/12+1)[:size]
		b.accept(string(body), to("a@x.test"))
		w := b.claim()
		read, err := io.ReadAll(struct{ io.Reader }{w.Body()}) // Read, not WriteTo
		if err != nil || !bytes.Equal(read, body) {
			t.Errorf("%d bytes: Read gave %d bytes, %v", size, len(read), err)
		}
		var written bytes.Buffer
		if _, err := io.Copy(&written, w.Body()); err != nil || !bytes.Equal(written.Bytes(), body) {
			t.Errorf("%d bytes: WriteTo gave %d bytes, %v", size, written.Len(), err)
		}
		if w.Envelope.Size != int64(size) {
			t.Errorf("%d bytes: size %d", size, w.Envelope.Size)
		}
		b.finish(w, Delivered)
	}
	if n := b.keys(store.PrefixBody) + b.keys(store.PrefixMessage); n != 0 {
		t.Errorf("%d keys are left of delivered messages", n)
	}
}

func TestAnAbortedMessageLeavesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	in, err := b.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 3*chunkSize)); err != nil {
		t.Fatal(err)
	}
	in.Abort()
	in.Abort()
	b.sync()
	if n := b.keys(store.PrefixBody); n != 0 || b.Counts() != (Counts{}) {
		t.Errorf("%d chunks, %+v", n, b.Counts())
	}
}

func TestAMessageCutOffByACrashIsSweptAtTheNextStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	kept := b.accept(strings.Repeat("k", 2*chunkSize), to("a@x.test"))
	in, _ := b.Begin()
	if _, err := in.Write(make([]byte, 3*chunkSize)); err != nil {
		t.Fatal(err)
	}
	b.sync()
	if n := b.keys(store.PrefixBody); n != 4 {
		t.Fatalf("%d chunks before the crash", n)
	}
	b.crash()
	b.sweepOrphans(t.Context(), b.sequence.next) // beside that of the start, which may not be done
	b.sync()
	if n := b.keys(store.PrefixBody); n != 2 {
		t.Errorf("%d chunks after the start", n)
	}
	if got := b.ids(Filter{}); !slices.Equal(got, []ID{kept}) {
		t.Errorf("queue %v", got)
	}
}

func TestAcceptanceIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{MaxMessages: 1})
	in, _ := b.Begin()
	if err := in.Commit(t.Context(), Envelope{}); err == nil {
		t.Error("a message without recipients was accepted")
	}
	in.Abort()
	b.accept("x", to("a@x.test"))
	if _, err := b.Begin(); !errors.Is(err, ErrFull) {
		t.Errorf("a full queue: %v", err)
	}
}

func TestADiskThatRunsFullDuringAMessageCostsThatMessageOnly(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(10 << 30)
	b := &bench{TB: t, dir: t.TempDir(), so: badger.Options{Free: func(string) (int64, error) { return free.Load(), nil }}}
	b.start()
	defer b.stop()
	in, err := b.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 2*chunkSize)); err != nil {
		t.Fatal(err)
	}
	free.Store(store.Floor)
	if _, err := in.Write(make([]byte, 2*chunkSize)); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("Write: %v", err)
	}
	if err := in.Commit(t.Context(), to("a@x.test")); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("Commit: %v", err)
	}
	in.Abort()
	if _, err := b.Begin(); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("Begin: %v", err)
	}
	b.sync()
	if n := b.keys(store.PrefixBody); n != 0 {
		t.Errorf("%d chunks are left", n)
	}
	free.Store(10 << 30)
	b.accept("x", to("a@x.test"))
}

func TestAMessageWithALostChunkIsNeverInTheQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	in, _ := b.Begin()
	if _, err := in.Write(make([]byte, chunkSize+1)); err != nil {
		t.Fatal(err)
	}
	in.mu.Lock()
	in.err = errors.New("the chunk was refused")
	in.mu.Unlock()
	if err := in.Commit(t.Context(), to("a@x.test")); err == nil {
		t.Error("acknowledged")
	}
	b.restart()
	if b.Counts() != (Counts{}) || b.keys(store.PrefixMessage) != 0 {
		t.Errorf("%+v after a restart", b.Counts())
	}
}

func TestResultsThatMeetAFullDiskAreWrittenWhenThereIsSpace(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(10 << 30)
	b := &bench{TB: t, dir: t.TempDir(), so: badger.Options{Free: func(string) (int64, error) { return free.Load(), nil }}}
	b.start()
	defer b.stop()
	b.accept("1", to("a@x.test"))
	b.accept("2", to("a@x.test"))
	w := b.claim()
	free.Store(0)
	b.Finish(w, Outcome{Results: all(w, Delivered), Notices: []NewMessage{{Envelope: to("n@n.test"), Body: []byte("notice")}}})
	if err := store.Commit(t.Context(), b.st, new(store.Batch)); !errors.Is(err, store.ErrDiskFull) {
		t.Fatalf("the disk should be full: %v", err)
	}
	if w := b.ClaimFor("x.test"); w != nil {
		t.Error("a delivery was begun that could not be recorded")
	}
	free.Store(10 << 30)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		w, err := b.Claim(ctx)
		if err != nil {
			t.Fatal(err)
		}
		b.finish(w, Delivered)
	}
	b.restart()
	if b.Counts() != (Counts{}) {
		t.Errorf("%+v", b.Counts())
	}
}

func TestACommitWhoseClientIsGoneMayStillBeMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, _ := b.Begin()
	_, _ = io.WriteString(in, "x")
	err := in.Commit(ctx, to("a@x.test"))
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b.sync()
	n := b.Counts().Messages
	b.restart()
	if got := b.Counts().Messages; got != n || n != 1 {
		t.Errorf("%d messages, %d after a restart", n, got)
	}
}

func TestAChangeThatIsTooLargeDoesNotFailTheStore(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	var bad store.Batch
	big := make([]byte, 1000)
	for i := range 15_000 { // more entries than a transaction may have is no failure
		bad.Set(binary.BigEndian.AppendUint32([]byte("z"), uint32(i)), big[:1])
	}
	if err := store.Commit(t.Context(), b.st, &bad); err == nil || b.st.Err() != nil {
		t.Fatalf("a change that is too large: %v, store %v", err, b.st.Err())
	}
	b.finish(b.claim(), Delivered)
}

func TestNumbersAndIDsAreNeverUsedTwiceEvenWithTheClockSetBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	seen := make(map[ID]bool)
	var last uint64
	var lastID ID
	for round := range 4 {
		for range 10 {
			id := b.accept("x", to("a@x.test"))
			seq := b.byID[id].Seq
			if seen[id] || (round > 0 || len(seen) > 0) && seq <= last {
				t.Fatalf("round %d: ID %s, number %d after %d", round, id, seq, last)
			}
			if id.Compare(lastID) <= 0 {
				t.Errorf("round %d: ID %s sorts before %s", round, id, lastID)
			}
			seen[id], last, lastID = true, seq, id
		}
		b.step(-time.Hour)
		b.restart()
	}
}

func TestTheRoomOfAQueueIsTheRoomOfItsStore(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	if err := b.Room(0); err != nil {
		t.Error(err)
	}
	if err := b.Room(1 << 60); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("an exbibyte: %v", err)
	}
}

// A torn store file must not keep the queue from opening, and what was accepted
// before the torn part is all there.
func TestAQueueOpensOnATornStore(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	long := to(numbered("x.test", 60)...) // its envelope is in the value log
	var ids []ID
	for range 20 {
		ids = append(ids, b.accept(strings.Repeat("b", 5000), long))
	}
	b.crash(func(dir string) {
		files, _ := filepath.Glob(filepath.Join(dir, "*.vlog"))
		file := slices.Max(files)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, int64(bytes.LastIndex(data, []byte("user59")))); err != nil {
			t.Fatal(err)
		}
	})
	got := b.ids(Filter{})
	if !slices.Equal(got, ids[:19]) {
		t.Errorf("%d messages of 19", len(got))
	}
	if !b.logs.has("cannot be read; it is left where it is") {
		t.Error("the torn envelope was not logged")
	}
	b.sweepOrphans(t.Context(), b.sequence.next)
	b.sync()
	if n := b.keys(store.PrefixBody); n != 20 {
		t.Errorf("%d bodies of 20: that of the torn envelope must stay", n)
	}
}
