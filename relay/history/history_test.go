package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is the wall clock of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)} }

func open(t *testing.T, dir string, c *clock, change ...func(*Options)) *Log {
	t.Helper()
	o := Options{Dir: dir, Key: []byte("secret"), Settings: Settings{Keep: 720 * time.Hour, Addresses: AddressesFull}, Now: c.Now}
	for _, f := range change {
		f(&o)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func find(t *testing.T, l *Log, q Query) (list []Record) {
	t.Helper()
	if err := l.Search(t.Context(), q, func(r Record) bool { list = append(list, r); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

func ids(list []Record) string {
	var out []string
	for _, r := range list {
		out = append(out, r.QueueID)
	}
	return strings.Join(out, " ")
}

func attempt(id, from, to, verdict string) Record {
	return Record{Kind: Attempt, QueueID: id, MessageID: "<" + id + "@sender.example>", From: from, To: []string{to}, Domain: to[strings.LastIndexByte(to, '@')+1:],
		Verdict: verdict, Host: "mx.example", Reply: "250 2.0.0 " + to + " queued as 4Xk", TLS: &TLS{Version: "TLS 1.3", Proof: ProofSTS}}
}

func TestWhatWasAddedIsFoundAtOnceAndNewestFirst(t *testing.T) {
	c := newClock()
	l := open(t, t.TempDir(), c)
	l.Add(attempt("01A", "anna@sender.example", "Kurt@A.example", "delivered"))
	c.advance(time.Hour)
	l.Add(attempt("01B", "anna@sender.example", "lisa@b.example", "deferred"))
	c.advance(20 * time.Hour) // another day
	l.Add(attempt("01C", "otto@sender.example", "kurt@a.example", "delivered"))
	yesterday := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, "01C 01B 01A"},
		{"oldest first", Query{OldestFirst: true}, "01A 01B 01C"},
		{"recipient, in other letters", Query{To: "KURT@a.example"}, "01C 01A"},
		{"sender", Query{From: "anna@sender.example"}, "01B 01A"},
		{"domain", Query{Domain: "A.EXAMPLE"}, "01C 01A"},
		{"message ID with brackets", Query{MessageID: "<01B@sender.example>"}, "01B"},
		{"message ID without", Query{MessageID: "01b@sender.example"}, "01B"},
		{"beginning of a queue ID", Query{QueueID: "01"}, "01C 01B 01A"},
		{"verdict", Query{Verdict: "deferred"}, "01B"},
		{"proof", Query{Proof: ProofDANE}, ""},
		{"kind", Query{Kinds: []Kind{Accepted}}, ""},
		{"yesterday", Query{Since: yesterday, Until: yesterday.AddDate(0, 0, 1)}, "01B 01A"},
		{"from a time on", Query{Since: yesterday.Add(10 * time.Hour)}, "01C 01B"},
		{"limit", Query{Limit: 2}, "01C 01B"},
		{"all of it", Query{From: "anna@sender.example", Domain: "a.example", Verdict: "delivered"}, "01A"},
	} {
		if got := ids(find(t, l, row.q)); got != row.want {
			t.Errorf("%s: %q, not %q", row.name, got, row.want)
		}
	}
}

// The zstd tool can read a file.
func TestFilesAreReadByZstdcat(t *testing.T) {
	zstdcat, err := exec.LookPath("zstdcat")
	if err != nil {
		t.Skip("zstdcat is not installed")
	}
	dir := t.TempDir()
	l := open(t, dir, newClock())
	for i := range 3 {
		l.Add(attempt(fmt.Sprint("01", i), "anna@sender.example", "kurt@a.example", "delivered"))
		if err := l.Sync(t.Context()); err != nil { // one frame for each record
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), zstdcat, filepath.Join(dir, "2026-11-27.jsonl.zst")).CombinedOutput()
	if err != nil || bytes.Count(out, []byte("\n")) != 3 || !bytes.Contains(out, []byte(`"message_id":"<010@sender.example>"`)) {
		t.Errorf("%v: %s", err, out)
	}
}

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

func TestADamagedFrameCostsItsOwnLinesAlone(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	l := open(t, dir, c)
	for i := range 3 {
		l.Add(attempt(fmt.Sprint("01", i), "anna@sender.example", "kurt@a.example", "delivered"))
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "2026-11-27.jsonl.zst")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	places, _, _, err := frames(bytes.NewReader(data), int64(len(data)))
	if err != nil || len(places) != 3 {
		t.Fatal(places, err)
	}
	for at := range data {
		data[at] ^= 0xff
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		data[at] ^= 0xff
		if got := find(t, l, Query{}); len(got) < 2 {
			t.Fatalf("octet %d: %q", at, ids(got))
		}
		inFrame := slices.ContainsFunc(places, func(p place) bool {
			return int64(at) >= p.offset && int64(at) < p.offset+int64(p.length)
		})
		if _, whole, err := chainOf(file); err != nil || whole && inFrame {
			t.Fatalf("octet %d: the chain is whole, %v", at, err)
		}
	}
}

func TestMailNeverWaitsForTheHistory(t *testing.T) {
	c := newClock()
	block, blocked := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l := open(t, t.TempDir(), c, func(o *Options) {
		o.CheckSpace = func(int64) error { once.Do(func() { close(blocked); <-block }); return nil }
	})
	l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
	done := make(chan error)
	go func() { done <- l.Sync(context.Background()) }()
	<-blocked
	for range queueLength + 7 {
		l.Add(attempt("01B", "anna@sender.example", "kurt@a.example", "delivered"))
	}
	if n := l.Dropped(); n != 7 {
		t.Errorf("%d dropped", n)
	}
	close(block)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := find(t, l, Query{}); len(got) != queueLength+1 {
		t.Errorf("%d records", len(got))
	}
}

func TestAFullDiskIsSaidAndEnds(t *testing.T) {
	c := newClock()
	full := errors.New("the disk is full")
	var mu sync.Mutex
	var space error
	set := func(err error) { mu.Lock(); space = err; mu.Unlock() }
	l := open(t, t.TempDir(), c, func(o *Options) {
		o.CheckSpace = func(int64) error { mu.Lock(); defer mu.Unlock(); return space }
	})
	l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	set(full)
	c.advance(time.Minute)
	for range 2 {
		l.Add(attempt("01B", "anna@sender.example", "kurt@a.example", "delivered"))
		if err := l.Sync(t.Context()); !errors.Is(err, full) {
			t.Fatal(err)
		}
		c.advance(time.Minute)
	}
	if l.Dropped() != 2 || l.Failure() != full.Error() {
		t.Errorf("%d dropped, failure %q", l.Dropped(), l.Failure())
	}
	set(nil)
	l.Add(attempt("01C", "anna@sender.example", "kurt@a.example", "delivered"))
	got := find(t, l, Query{OldestFirst: true})
	if ids(got) != "01A  01C" || l.Failure() != "" {
		t.Fatalf("%q, failure %q", ids(got), l.Failure())
	}
	if gap := got[1]; gap.Kind != Gap || gap.Lines != 2 || gap.MissingTo.Sub(*gap.MissingFrom) != time.Minute {
		t.Errorf("%+v", gap)
	}
}

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

func TestOldDaysGo(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	l := open(t, dir, c, func(o *Options) { o.Keep = 72 * time.Hour })
	tidy := func() (names []string) {
		t.Helper()
		if err := l.order(t.Context(), func(w *writer) error { w.drain(); _ = w.flush(); w.nextTidy = time.Time{}; w.tidy(); return nil }); err != nil {
			t.Fatal(err)
		}
		list, err := days(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			names = append(names, d.day)
		}
		return names
	}
	for range 6 {
		l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
		tidy()
		c.advance(24 * time.Hour)
	}
	if got := tidy(); !slices.Equal(got, []string{"2026-11-30", "2026-12-01", "2026-12-02"}) {
		t.Errorf("%v", got)
	}
	if !l.Shortened().IsZero() {
		t.Errorf("shortened: %v", l.Shortened())
	}
	l.Set(Settings{Keep: 720 * time.Hour, Size: 1})
	l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
	if got := tidy(); !slices.Equal(got, []string{"2026-12-03"}) || !l.Shortened().Equal(time.Date(2026, 12, 3, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%v, shortened %v", got, l.Shortened())
	}
}

func FuzzFrames(f *testing.F) {
	h := header{lines: 1, length: 3, raw: 3}
	f.Add(append(h.encode(), "abc"...))
	f.Add([]byte("W*M\x18W*M\x18"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, end, bad, err := frames(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		sum := bad
		for _, p := range list {
			sum += headerSize + int64(p.length)
		}
		if end > int64(len(data)) || sum > int64(len(data)) {
			t.Fatalf("%d frames end at %d, %d octets passed over, of %d", len(list), end, bad, len(data))
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	l, err := Open(Options{Dir: b.TempDir(), Key: []byte("k"), Settings: Settings{Keep: time.Hour, Addresses: AddressesFull}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.ReportAllocs()
	for i := range b.N {
		l.Add(attempt(fmt.Sprint("01", i), "anna@sender.example", fmt.Sprintf("kurt%d@a.example", i), "delivered"))
		if i%1000 == 0 {
			_ = l.Sync(b.Context())
		}
	}
}

// The lines are as encoding/json writes them, for every field and every text.
func TestLinesAreThoseOfEncodingJSON(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 0, 0, 120, time.UTC)
	full := Record{
		At: at, Kind: Attempt, QueueID: "01A", MessageID: "<a&b@x>", From: "a@x", To: []string{"b@y", `"q \\ "@y`}, Domain: "y", Size: 7, Subject: "s", Client: "c", User: "u", ClientTLS: "TLS 1.3",
		Verdict: "deferred", Why: "dns", Host: "h", IP: "::1", Reply: "450\ta\nb\r\x01\x7f", Status: "4.4.3", Error: "ü\u2028\xff\"", Number: 2, Took: 0.00012,
		TLS: &TLS{Version: "TLS 1.3", Cipher: "c", Group: "g", OfferedAndBroke: true, Proof: ProofDANE, PolicyID: "1", PolicyMode: "enforce", PolicyFetched: &at, TLSA: "3 1 1 ab",
			Certificate: &Certificate{SHA256: "ab", Subject: "CN=x", Names: []string{"x", "y"}, Issuer: "CN=i", Serial: "1f", NotBefore: at, NotAfter: at}},
		What: "what", By: "web", Notice: "01B", MissingFrom: &at, MissingTo: &at, Lines: 3,
	}
	for _, r := range []Record{full, {At: at, Kind: Gap}, {At: at, Kind: Accepted, TLS: &TLS{Proof: ProofNone, Certificate: new(Certificate)}}} {
		want, err := encode(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.line(nil); !bytes.Equal(got, want) {
			t.Errorf("got  %swant %s", got, want)
		}
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the test has no value for %s", v.Type().Field(i).Name)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\", "\x00\x1f\x7f", "ü\u2028", "\xff\xc3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := encode(s)
		if got := appendText(nil, s); err != nil || string(got) != strings.TrimSuffix(string(want), "\n") {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	})
}

// encode returns v as one line of JSON by encoding/json, with < and > as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
