package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/store/badger/badgertest"
)

// Whatever a disk does to one file of a store, no message is lost without a
// word, none comes out that is not what was accepted, and nothing ends the
// process. STSRELAY_TEST_DAMAGES is the number of damages, STSRELAY_TEST_SEED
// the seed of the first one.
func TestNoDamageLosesMailWithoutAWord(t *testing.T) {
	t.Parallel()
	count, seed := 40, rand.Uint64N(1<<32)
	if testing.Short() {
		count = 10
	}
	for name, set := range map[string]func(uint64){"STSRELAY_TEST_DAMAGES": func(n uint64) { count = int(n) }, "STSRELAY_TEST_SEED": func(n uint64) { seed = n }} {
		if s := os.Getenv(name); s != "" {
			n, err := strconv.ParseUint(s, 10, 63)
			if err != nil {
				t.Fatal(err)
			}
			set(n)
		}
	}
	t.Logf("seed %d, %d damages", seed, count)
	known := newKnownStore(t)
	seen := make(map[string]int)
	for i := range count {
		rng := rand.New(rand.NewPCG(seed+uint64(i), 0))
		state := known.states[rng.IntN(len(known.states))]
		files, what := state.damage(rng, known.older)
		dir := filepath.Join(t.TempDir(), strconv.Itoa(i))
		write(t, dir, files)
		outcome, err := known.try(dir)
		if err != nil {
			t.Errorf("seed %d: %s, %s: %v", seed+uint64(i), state.name, what, err)
		}
		seen[strings.Fields(what)[0]+": "+outcome]++
		_ = os.RemoveAll(dir)
	}
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%5d  %s", seen[k], k)
	}
}

// content is a file: what stands before the zeros at its end, and its length.
type content struct {
	data []byte
	size int64
}

type files map[string]content

// storeState is a store as it lies on the disk.
type storeState struct {
	name  string
	files files
}

// knownStore is a store with 200 messages, at several times.
type knownStore struct {
	bodies map[ID][]byte
	states []storeState
	older  []files
}

const knownMessages = 200

func newKnownStore(t *testing.T) *knownStore {
	t.Helper()
	k := &knownStore{bodies: make(map[ID][]byte)}
	dir := filepath.Join(t.TempDir(), "queue")
	rng := rand.New(rand.NewPCG(7, 7))
	var st *badger.Store
	var q *Queue
	open := func() {
		t.Helper()
		var err error
		if st, err = badger.Open(badger.Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if q, err = Open(Options{Store: st, Paused: true}); err != nil {
			t.Fatal(err)
		}
	}
	closeAll := func() {
		t.Helper()
		q.Close()
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	accept := func(n int) {
		t.Helper()
		for range n {
			in, err := q.Begin()
			if err != nil {
				t.Fatal(err)
			}
			body := bytes.Repeat([]byte{byte('a' + rng.IntN(26)), byte('a' + rng.IntN(26))}, []int{100, 1500, 1500, 10_000, 150_000}[rng.IntN(5)])
			body = append(fmt.Appendf(nil, "Received: from x\r\n\tby relay with ESMTP id %s\r\n\r\n", in.ID()), body...)
			env := Envelope{From: "s@sender.test", Recipients: []Recipient{{Address: "a@x.test", Domain: "x.test"}}}
			for i := range rng.IntN(3) * 20 {
				env.Recipients = append(env.Recipients, Recipient{Address: fmt.Sprintf("recipient-%d@y.test", i), Domain: "y.test"})
			}
			if _, err := in.Write(body); err != nil {
				t.Fatal(err)
			}
			if err := in.Commit(t.Context(), env); err != nil {
				t.Fatal(err)
			}
			k.bodies[in.ID()] = body
		}
	}
	remove := func(n int) { // some messages come and go
		t.Helper()
		before := maps.Clone(k.bodies)
		accept(n)
		for id := range k.bodies {
			if before[id] == nil {
				if _, err := q.Remove(t.Context(), Filter{IDs: []ID{id}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		k.bodies = before
	}
	open()
	accept(60)
	remove(20)
	k.older = append(k.older, read(t, dir))
	closeAll()
	k.older = append(k.older, read(t, dir))
	open()
	accept(70)
	remove(10)
	closeAll()
	k.older = append(k.older, read(t, dir))
	open()
	accept(69)
	remove(30)
	k.older = append(k.older, read(t, dir))
	accept(1)
	if _, err := q.Hold(t.Context(), Filter{IDs: slices.Collect(maps.Keys(k.bodies))[:1]}, "by the test"); err != nil {
		t.Fatal(err)
	}
	k.states = append(k.states, storeState{"after a crash", read(t, dir)})
	closeAll()
	k.states = append(k.states, storeState{"stopped", read(t, dir)})
	open()
	closeAll()
	k.states = append(k.states, storeState{"started and stopped", read(t, dir)})
	if len(k.bodies) != knownMessages {
		t.Fatalf("%d messages", len(k.bodies))
	}
	return k
}

// read takes the files of a store as of one moment, and the one beside it.
func read(t *testing.T, dir string) files {
	t.Helper()
	out := make(files)
	const identity = "../queue.identity"
	from := badgertest.Copy(t, dir)
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{identity: filepath.Join(dir, identity)}
	for _, e := range entries {
		paths[e.Name()] = filepath.Join(from, e.Name())
	}
	for name, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		n := len(data)
		zero := make([]byte, 1<<16)
		for n > len(zero) && bytes.Equal(data[n-len(zero):n], zero) {
			n -= len(zero)
		}
		for n > 0 && data[n-1] == 0 {
			n--
		}
		out[name] = content{slices.Clone(data[:n]), int64(len(data))}
	}
	return out
}

func write(t *testing.T, dir string, f files) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "queue"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range f {
		name = filepath.Join(dir, "queue", name)
		if err := errors.Join(os.WriteFile(name, c.data, 0o600), os.Truncate(name, c.size)); err != nil {
			t.Fatal(err)
		}
	}
}

// damage returns the files with one damage.
func (s *storeState) damage(rng *rand.Rand, older []files) (files, string) {
	f := maps.Clone(s.files)
	names := slices.Sorted(maps.Keys(f))
	name := names[rng.IntN(len(names))]
	c := f[name]
	switch kind := rng.IntN(7); {
	case kind == 0:
		delete(f, name)
		return f, "missing " + name
	case kind == 1 && c.size > 0:
		at := rng.Int64N(c.size)
		if len(c.data) > 0 && rng.IntN(4) > 0 {
			at = rng.Int64N(int64(len(c.data)))
		}
		f[name] = content{c.data[:min(at, int64(len(c.data)))], at}
		return f, fmt.Sprintf("cut %s at %d of %d", name, at, len(c.data))
	case kind == 2:
		for range 20 {
			other := names[rng.IntN(len(names))]
			if other != name && filepath.Ext(other) == filepath.Ext(name) {
				f[name], f[other] = f[other], f[name]
				return f, "swapped " + name + " and " + other
			}
		}
	case kind == 3:
		from := rng.IntN(len(older))
		if old, ok := older[from][name]; ok {
			f[name] = old
			return f, fmt.Sprintf("older %s of time %d", name, from)
		}
	}
	if len(c.data) == 0 {
		return f, "nothing " + name
	}
	at, data := rng.IntN(len(c.data)), slices.Clone(c.data)
	n := 1
	if rng.IntN(3) == 0 {
		n = min(1+rng.IntN(600), len(data)-at)
		for i := range n {
			data[at+i] = byte(rng.Int())
		}
	} else {
		data[at] ^= 1 << rng.IntN(8)
	}
	f[name] = content{data, c.size}
	return f, fmt.Sprintf("bits of %s, %d octets at %d of %d", name, n, at, len(c.data))
}

// try starts on a damaged store, twice. The error says what was lost without a
// word, or was not what was accepted.
func (k *knownStore) try(dir string) (outcome string, err error) {
	dir = filepath.Join(dir, "queue")
	outcome = "sound"
	said := false // what the first start has said of what is gone holds for the second
	for range 2 {
		var log bytes.Buffer
		st, err := badger.Open(badger.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))})
		if damage, ok := errors.AsType[*badger.DamageError](err); ok {
			return "refused", k.rescue(dir, damage)
		}
		if err != nil {
			return "refused without a verdict", fmt.Errorf("refused with: %w", err)
		}
		said = said || len(st.Damage().Said) > 0 || len(st.Damage().Keys) > 0
		o, err := k.look(st, said)
		if e := st.Close(); err == nil {
			err = e
		}
		if err != nil {
			return o, err
		}
		if o != "sound" {
			outcome = o
		}
	}
	return outcome, nil
}

// rescue takes the messages out of a store that was refused.
func (k *knownStore) rescue(dir string, damage *badger.DamageError) error {
	s, err := badger.OpenSalvage(dir, "test")
	if err != nil {
		return err
	}
	defer s.Close()
	var file bytes.Buffer
	r, err := Rescue(s, &file)
	if err != nil {
		return err
	}
	into := &collecting{bodies: make(map[ID][]byte)}
	if t, err := readExport(&file, into); err != nil || !t.Whole() || t.Messages != r.Messages {
		return fmt.Errorf("the export: %+v, %v", t, err) //nolint:errorlint // it may be nil
	}
	found := 0
	for id, body := range into.bodies {
		if want := k.bodies[id]; want != nil {
			if !bytes.Equal(body, want) {
				return fmt.Errorf("%s came out wrong", id)
			}
			found++
		}
	}
	if damage.Expected < knownMessages && found < knownMessages {
		return fmt.Errorf("%d of %d messages, and %d are said to have been there", found, knownMessages, damage.Expected)
	}
	named := 0 // of those that are not sound
	for _, m := range r.Lost {
		if id, err := ulid.Parse(m.ID); err == nil && k.bodies[id] != nil {
			named++
		}
	}
	// A store that is empty has no trace of a message, and one whose value log is
	// gone has none of what lay there. Small bodies lie beside their envelopes.
	if bad := damage.Error(); found+named < knownMessages/2 && !damage.Foreign && !strings.Contains(bad, "vlog: the file is missing") {
		return fmt.Errorf("%d messages were taken out and %d named: %w", found, named, damage)
	}
	return nil
}

// look compares what a started queue has with what it had.
func (k *knownStore) look(st *badger.Store, said bool) (outcome string, err error) {
	var log bytes.Buffer
	q, err := Open(Options{Store: st, Paused: true, Damage: st.Damage(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		return "no queue", err
	}
	defer q.Close()
	said = said || q.Counts().Unreadable > 0
	there := make(map[ID]Message)
	if err := q.List(context.Background(), Filter{}, func(m Message) bool { there[m.ID] = m; return true }); err != nil {
		return "no list", err
	}
	outcome = "sound"
	if said {
		outcome = "said"
	}
	for id, want := range k.bodies {
		m, ok := there[id]
		if !ok {
			if !said {
				return "lost", fmt.Errorf("%s is lost without a word", id)
			}
			continue
		}
		r, err := q.Open(id)
		if err != nil {
			return "lost", err
		}
		body, err := io.ReadAll(r)
		switch {
		case err == nil && !bytes.Equal(body, want):
			return "lost", fmt.Errorf("%s came out wrong", id)
		case err != nil && (m.State != Held || !m.Unreadable):
			return "lost", fmt.Errorf("%s cannot be read, and is %s: %w", id, m.State, err)
		}
	}
	return outcome, st.Err()
}

// collecting is an exportSink that keeps everything.
type collecting struct {
	bodies map[ID][]byte
	id     ID
	buf    bytes.Buffer
}

func (c *collecting) begin(m *exportedMessage) error {
	c.id = m.Envelope.ID
	c.buf.Reset()
	return nil
}
func (c *collecting) Write(p []byte) (int, error) { return c.buf.Write(p) }
func (c *collecting) commit() error {
	c.bodies[c.id] = bytes.Clone(c.buf.Bytes())
	return nil
}
func (c *collecting) abort() {}
