package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

func (b *bench) export() []byte {
	b.Helper()
	var buf bytes.Buffer
	t, err := b.Export(context.Background(), &buf)
	if err != nil || !t.Complete {
		b.Fatalf("%+v, %v", t, err)
	}
	return buf.Bytes()
}

func (b *bench) import_(file []byte, hold string) Transfer {
	b.Helper()
	t, err := b.Import(context.Background(), bytes.NewReader(file), hold)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func (b *bench) content(id ID) string {
	b.Helper()
	r, err := b.Open(id)
	if err != nil {
		b.Fatal(err)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		b.Fatal(err)
	}
	return string(body)
}

func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return string(b)
}

// A queue with a new message, one that was tried, one that is half done, one
// that is held, and large and empty bodies.
func storied(t *testing.T) (b *bench, bodies map[ID]string) {
	b = newBench(t, Options{})
	bodies = make(map[ID]string)
	add := func(body string, addresses ...string) ID {
		env := to(addresses...)
		env.EnvID, env.EightBit = "e+1", true
		id := b.accept(body, env)
		bodies[id] = body
		return id
	}
	add(noise(3*chunkSize+17), "x@half.test", "y@half.test", "z@other.test")
	w := b.claim()
	b.Finish(w, Outcome{Results: []RecipientState{
		{State: Delivered, LastReply: "250 ok", Host: "mx.half.test", TLS: "TLS 1.3"},
		{State: Queued, LastReply: "451 later", LastError: "put off", ReasonCode: "deferred", Delayed: true},
	}})
	b.sync()
	add("", "a@empty.test")
	b.finish(b.claim(), Queued) // z@other.test or a@empty.test
	held := add("keep", "h@held.test")
	b.touched(1)(b.Hold(context.Background(), Filter{IDs: []ID{held}}, "by the operator"))
	add(noise(chunkSize), "n@new.test")
	return b, bodies
}

func state(m Message) Message {
	m.changes, m.records, m.Chunks = 0, nil, 0
	// What is told from the time that is left differs a little; NextAttemptAt is compared by itself.
	m.NextAttemptAt, m.ExpiresAt = time.Time{}, time.Time{}
	for i := range m.Waits {
		m.Waits[i].NextAttemptAt = time.Time{}
	}
	return m
}

func TestAnExportedQueueComesBackAsItWas(t *testing.T) {
	t.Parallel()
	a, bodies := storied(t)
	file := a.export()
	b := newBench(t, Options{})
	same := func(when string) {
		t.Helper()
		for id, body := range bodies {
			want, got := state(a.show(id)), state(b.show(id))
			later := b.show(id).NextAttemptAt.Sub(a.show(id).NextAttemptAt).Abs()
			if gs, ws := encode(got), encode(want); !bytes.Equal(gs, ws) || got.HeldFor != want.HeldFor || later > 2*time.Second {
				t.Errorf("%s message %s is\n%+v, was\n%+v", when, id, got, want)
			}
			if b.content(id) != body {
				t.Errorf("%s the body of %s is another", when, id)
			}
		}
	}
	got := b.import_(file, "")
	if got.Messages != len(bodies) || !got.Whole() || got.Present != 0 {
		t.Fatalf("imported %+v", got)
	}
	same("at once")
	if b.Counts() != a.Counts() {
		t.Errorf("counts are %+v, were %+v", b.Counts(), a.Counts())
	}
	b.restart()
	same("after a restart")
	if got := b.import_(file, ""); got.Messages != 0 || got.Present != len(bodies) || !got.Whole() {
		t.Errorf("the second import took %+v", got)
	}

	// All of it ends as mail does, and leaves nothing.
	b.Unhold(context.Background(), Filter{})
	b.Retry(context.Background(), Filter{})
	for w := b.try(); w != nil; w = b.try() {
		b.finish(w, Delivered)
	}
	if n := b.keys(store.PrefixMessage) + b.keys(store.PrefixBody); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func TestAnImportMayHoldWhatItBrings(t *testing.T) {
	t.Parallel()
	a, bodies := storied(t)
	b := newBench(t, Options{})
	b.import_(a.export(), "imported")
	b.nothing("after an import on hold")
	b.restart()
	if n := b.Counts().Held; n != len(bodies) {
		t.Errorf("%d are held", n)
	}
}

func TestAMessageThatIsInTheFileTwiceIsImportedOnce(t *testing.T) {
	t.Parallel()
	a := newBench(t, Options{})
	id := a.accept("body", to("x@a.test"))
	var buf bytes.Buffer
	x, err := newExportWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		e, err := a.find(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.exportOne(e, x, new(Transfer)); err != nil {
			t.Fatal(err)
		}
	}
	_ = x.record(recordLast, encode(exportedLast{Messages: 3}))
	x.w.Flush()
	b := newBench(t, Options{})
	if got := b.import_(buf.Bytes(), ""); got.Messages != 1 || got.Present != 2 {
		t.Errorf("%+v", got)
	}
}

// Whatever octet is changed and wherever the file is cut, it is found, and what
// is taken in all the same is as it was.
func TestDamageInAnExportFileIsFound(t *testing.T) {
	t.Parallel()
	a := newBench(t, Options{})
	bodies := make(map[ID]string)
	for _, body := range []string{"first", strings.Repeat("second ", 9), "third"} {
		bodies[a.accept(body, to("x@a.test", "y@b.test"))] = body
	}
	file := a.export()
	check := func(what string, at int, damaged []byte) {
		t.Helper()
		var s collect
		got, err := readExport(bytes.NewReader(damaged), &s)
		if err == nil && got.Whole() {
			t.Errorf("%s at octet %d of %d was not found", what, at, len(file))
		}
		if err == nil && got.Complete && (got.Messages < 2 || got.Messages+got.Damaged > 3) {
			t.Errorf("%s at octet %d: %+v", what, at, got)
		}
		for id, body := range s.whole {
			if bodies[id] != body {
				t.Errorf("%s at octet %d: message %s has the body %q", what, at, id, body)
			}
		}
	}
	if got, err := CheckExport(bytes.NewReader(file)); err != nil || !got.Whole() || got.Messages != 3 {
		t.Fatalf("the whole file: %+v, %v", got, err)
	}
	for at := range file {
		for _, flip := range []byte{1, 0x80, 0xff} {
			damaged := bytes.Clone(file)
			damaged[at] ^= flip
			check("a change", at, damaged)
		}
		check("a cut", at, file[:at])
		check("a lost octet", at, slices.Delete(bytes.Clone(file), at, at+1))
	}
	check("an addition", len(file), append(bytes.Clone(file), file[len(exportMagic)+8:]...))
}

// collect is a sink that keeps everything.
type collect struct {
	id    ID
	buf   bytes.Buffer
	whole map[ID]string
}

func (c *collect) begin(m *exportedMessage) error {
	c.id = m.Envelope.ID
	c.buf.Reset()
	return nil
}
func (c *collect) Write(p []byte) (int, error) { return c.buf.Write(p) }
func (c *collect) commit() error {
	if c.whole == nil {
		c.whole = make(map[ID]string)
	}
	c.whole[c.id] = c.buf.String()
	return nil
}
func (c *collect) abort() {}

func TestACutImportLeavesWholeMessagesOnly(t *testing.T) {
	t.Parallel()
	a, bodies := storied(t)
	file := a.export()
	b := newBench(t, Options{})
	for _, cut := range []int{len(file) / 3, len(file) - 20} {
		got := b.import_(file[:cut], "")
		if got.Complete {
			t.Errorf("a cut file is said to be complete: %+v", got)
		}
	}
	b.restart()
	for _, id := range b.ids(Filter{}) {
		if b.content(id) != bodies[id] {
			t.Errorf("the body of %s is another", id)
		}
	}
	if got := b.import_(file, ""); got.Messages+got.Present != len(bodies) || !got.Whole() {
		t.Errorf("the whole file then: %+v", got)
	}
	if got := len(b.ids(Filter{})); got != len(bodies) {
		t.Errorf("%d messages, want %d", got, len(bodies))
	}
}

func TestWhatIsNoExportIsRefusedWithWords(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	for name, c := range map[string]struct{ file, want string }{
		"empty":   {"", "does not begin with"},
		"a mail":  {"From: a@b.test\r\n\r\nThis is text that is long enough.", "does not begin with"},
		"version": {"stsrelay-queue-export 2\nxxxxxxxx", `version is "2"`},
	} {
		_, err := b.Import(context.Background(), strings.NewReader(c.file), "")
		if !errors.Is(err, ErrNoExport) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a stranger may have written is not taken into the queue.
func TestAnImportedMessageMustBeOneOfAQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	for name, spoil := range map[string]func(*exportedMessage){
		"no recipient":   func(m *exportedMessage) { m.Envelope.Recipients, m.States = nil, nil },
		"fewer states":   func(m *exportedMessage) { m.States = nil },
		"a second line":  func(m *exportedMessage) { m.Envelope.Recipients[0].Address = "x@a.test>\r\nRCPT TO:<y@b.test" },
		"in the sender":  func(m *exportedMessage) { m.Envelope.From = "a\nb@c.test" },
		"in a parameter": func(m *exportedMessage) { m.Envelope.Recipients[0].Notify = []string{"NEVER\r\n"} },
		"all done":       func(m *exportedMessage) { m.States[0].State.State = Delivered },
		"another state":  func(m *exportedMessage) { m.States[0].State.State = "lost" },
		"a late ID":      func(m *exportedMessage) { _ = m.Envelope.ID.SetTime(1 << 47) },
		"no ID":          func(m *exportedMessage) { m.Envelope.ID = ID{} },
	} {
		m := &exportedMessage{Envelope: to("x@a.test"), States: []exportedState{{State: RecipientState{State: Queued}}}}
		m.Envelope.ID, m.Envelope.ReceivedAt = b.Queue.ids.next(b.now), b.now
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		spoil(m)
		var buf bytes.Buffer
		x, _ := newExportWriter(&buf)
		_ = x.record(recordMessage, encode(m))
		_ = x.end()
		_ = x.record(recordLast, encode(exportedLast{Messages: 1}))
		x.w.Flush()
		if got := b.import_(buf.Bytes(), ""); got.Damaged != 1 || got.Messages != 0 || b.Counts().Messages != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAnImportThatMeetsAFullQueueCanBeMadeAgain(t *testing.T) {
	t.Parallel()
	const n = 3 * importsInFlight
	a := newBench(t, Options{})
	for range n {
		a.accept("body", to("x@a.test"))
	}
	file := a.export()
	b := newBench(t, Options{MaxMessages: 2})
	got, err := b.Import(context.Background(), bytes.NewReader(file), "")
	if !errors.Is(err, ErrFull) || got.Messages < 2 || got.Messages == n || got.Damaged > 0 || b.Counts().Messages != got.Messages {
		t.Fatalf("%+v, %v", got, err)
	}
	b.o.MaxMessages = 0
	b.restart()
	if more := b.import_(file, ""); more.Messages+got.Messages != n || more.Present != got.Messages {
		t.Errorf("%+v, then %+v", got, more)
	}
}

func TestABodyThatCannotBeReadIsLeftOutOfTheExport(t *testing.T) {
	t.Parallel()
	a, bodies := storied(t)
	for id := range bodies {
		if e, _ := a.find(id); len(bodies[id]) > chunkSize {
			_ = store.Remove(context.Background(), a.st, bodyKey(e.Seq, 2))
		}
	}
	var buf bytes.Buffer
	got, err := a.Export(context.Background(), &buf)
	if err != nil || got.Unreadable != 1 || got.Messages != len(bodies)-1 {
		t.Fatalf("%+v, %v", got, err)
	}
	b := newBench(t, Options{})
	if got := b.import_(buf.Bytes(), ""); got.Messages != len(bodies)-1 || got.Unreadable != 1 || !got.Whole() {
		t.Errorf("%+v", got)
	}
}

func FuzzReadExport(f *testing.F) {
	var buf bytes.Buffer
	x, err := newExportWriter(&buf)
	if err != nil {
		f.Fatal(err)
	}
	m := &exportedMessage{Envelope: to("x@a.test"), States: []exportedState{{State: RecipientState{State: Queued}}}}
	m.Envelope.ID, m.Envelope.ReceivedAt, m.Envelope.Size = ID{1}, time.Unix(1e9, 0), 4
	_ = x.record(recordMessage, encode(m))
	_ = x.record(recordBody, []byte("body"))
	_ = x.end()
	_ = x.record(recordLast, encode(exportedLast{Messages: 1}))
	x.w.Flush()
	f.Add(buf.Bytes(), uint(0), byte(0), false)
	f.Add(buf.Bytes(), uint(60), byte(3), true)
	// The content of records is put under valid checksums, so that what is
	// behind them is reached.
	f.Fuzz(func(t *testing.T, file []byte, at uint, kind byte, frame bool) {
		if frame {
			var buf bytes.Buffer
			x, _ := newExportWriter(&buf)
			n := int(at % uint(len(file)+1))
			_ = x.record("MBEZ"[kind%4], file[:n])
			_ = x.record("MBEZ"[kind/4%4], file[n:])
			x.w.Flush()
			file = buf.Bytes()
		}
		var s collect
		got, err := readExport(bytes.NewReader(file), &s)
		if err != nil && !errors.Is(err, ErrNoExport) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
		if got.Messages < len(s.whole) || got.Damaged < 0 {
			t.Errorf("%+v with %d messages", got, len(s.whole))
		}
	})
}
