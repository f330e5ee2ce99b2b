package history

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// counted counts how often a file is read.
type counted struct {
	io.ReaderAt
	reads atomic.Int64
}

func (c *counted) ReadAt(b []byte, at int64) (int, error) {
	c.reads.Add(1)
	return c.ReaderAt.ReadAt(b, at)
}

func TestManySmallFramesAreReadTogether(t *testing.T) {
	dir := t.TempDir()
	c := newClock()
	begin := c.Now().Truncate(24 * time.Hour)
	writeDay(t, dir, begin, 0, 5000) // a frame for each message
	data, err := os.ReadFile(filepath.Join(dir, begin.Format(time.DateOnly)+fileSuffix))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(data))
	f := &counted{ReaderAt: bytes.NewReader(data)}
	list, err := chunks(f, size, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	lines := 0
	m := matcher{}
	err = r.each(t.Context(), f, list, m.lines, func(hits []Record) error { lines += len(hits); return nil })
	if err != nil || lines != 10_000 {
		t.Fatalf("%d lines, %v", lines, err)
	}
	if most := int(size/(16<<10)) + len(list) + 2; int(f.reads.Load()) > most || len(list) > 100 {
		t.Errorf("%d reads for %d chunks, at most %d", f.reads.Load(), len(list), most)
	}
	half, err := chunks(f, size, begin.Add(12*time.Hour), time.Time{})
	if err != nil || len(half) == 0 || len(half) > len(list)/2+2 || half[0].offset < size/3 {
		t.Errorf("the second half of the day: %d of %d chunks, %v", len(half), len(list), err)
	}
}

func TestALineWithoutTheWantedTextIsNotParsed(t *testing.T) {
	var raw []byte
	for i := range 1000 {
		r := bulky(time.Unix(0, 0), 0, i)
		raw = r.line(raw)
	}
	r := Record{Kind: Attempt, QueueID: "01KAR7M3QVJ0Z6ABCDEFGHJKMN", MessageID: "<One@Sender.Example>", From: "Anna@Corp.Example", To: []string{"x@y.example", "Kurt@Partner.Example"}, Domain: "Partner.Example"}
	raw = r.line(raw)
	for _, kept := range []Addresses{AddressesFull, AddressesHashed} {
		for _, q := range []Query{
			{To: "kURT@partner.example"}, {From: "anna@corp.EXAMPLE"}, {Domain: "partner.example"}, {MessageID: "one@sender.example"}, {QueueID: "01kar7m3qvj0z6a"},
		} {
			m := matcher{q: q, key: []byte("secret")}
			masked := kept.mask(&r, m.key)
			lines := masked.line(bytes.Clone(raw[:bytes.LastIndexByte(raw[:len(raw)-1], '\n')+1]))
			m.needles = m.rarest()
			parsed := 0
			for range candidates(lines, m.needles) {
				parsed++
			}
			if found := len(m.lines(lines)); parsed != 1 || found != 1 {
				t.Errorf("%s, %+v: %d parsed, %d found", kept, q, parsed, found)
			}
		}
	}
}

func TestNeedles(t *testing.T) {
	for _, row := range []struct {
		want, in string
		found    bool
	}{
		{"a@b", "xxA@Bxx", true}, {"a@b", "@b", false}, {"a@b", "a@", false}, {"a@b", "a@c a@b", true}, {"a@b", "@@@a@b", true},
		{"a-b@c", "a_b@c", false}, {"a@b", "", false}, {"x.y", "y.x.y", true}, {"a@[", "a@{", false},
	} {
		if list := needles(row.want); len(list) != 1 || list[0].in([]byte(row.in)) != row.found {
			t.Errorf("%q in %q: not %t", row.want, row.in, row.found)
		}
	}
	for _, none := range []string{"", "abc1", "jürgen@example.com"} {
		if needles(none) != nil {
			t.Errorf("%q: lines with it must all be parsed", none)
		}
	}
}

func TestAnAddressWithLettersOutsideOfASCIIIsFound(t *testing.T) {
	l := open(t, t.TempDir(), newClock())
	l.Add(attempt("A1", "anna@corp.example", "JÜRGEN@partner.example", "delivered"))
	if got := ids(find(t, l, Query{To: "jürgen@partner.example"})); got != "A1" {
		t.Errorf("found: %q", got)
	}
}

func TestASearchEndsEarlyAndKeepsTheOrder(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	begin := c.Now().Truncate(24 * time.Hour)
	for day := range 3 {
		writeDay(t, dir, begin.AddDate(0, 0, day), day, 2000)
	}
	c.advance(72 * time.Hour)
	l := open(t, dir, c)
	for _, oldestFirst := range []bool{false, true} {
		all := find(t, l, Query{Kinds: []Kind{Attempt}, OldestFirst: oldestFirst})
		if len(all) != 6000 {
			t.Fatalf("%d found", len(all))
		}
		for i := range all[1:] {
			if all[i].At.Equal(all[i+1].At) || all[i].At.Before(all[i+1].At) != oldestFirst {
				t.Fatalf("%s before %s", all[i].At, all[i+1].At)
			}
		}
		first := find(t, l, Query{Kinds: []Kind{Attempt}, OldestFirst: oldestFirst, Limit: 3})
		if ids(first) != ids(all[:3]) {
			t.Errorf("the first three: %s, not %s", ids(first), ids(all[:3]))
		}
	}
	n := 0
	if err := l.Search(t.Context(), Query{}, func(Record) bool { n++; return n < 5 }); err != nil || n != 5 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	dir := t.TempDir()
	begin := newClock().Now().Truncate(24 * time.Hour)
	writeDay(t, dir, begin, 0, 50)
	data, err := os.ReadFile(filepath.Join(dir, begin.Format(time.DateOnly)+fileSuffix))
	if err != nil {
		t.Fatal(err)
	}
	list, err := chunks(bytes.NewReader(data), int64(len(data)), time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	m := matcher{}
	err = r.each(t.Context(), bytes.NewReader(data[:len(data)/2]), list, m.lines, func([]Record) error { return nil })
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func BenchmarkSearch(b *testing.B) {
	var raw []byte
	for i := range 450 {
		r := bulky(time.Unix(0, 0), 0, i)
		raw = r.line(raw)
	}
	for _, q := range []Query{{To: "nobody@nowhere.example"}, {Domain: "nowhere.example"}, {MessageID: "x@nowhere.example"}, {QueueID: "01KAR7M3QVJ1"}} {
		m := matcher{q: q, key: []byte("secret")}
		m.needles = m.rarest()
		b.Run(strings.Trim(fmt.Sprint(q.To, q.Domain, q.MessageID, q.QueueID), " "), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if len(m.lines(raw)) > 0 {
					b.Fatal("found")
				}
			}
		})
	}
}

// writeDay writes a day as the writer does where messages come evenly: a frame has what came
// in one second. It does not wait for the disk, and returns the size of the file.
func writeDay(t *testing.T, dir string, begin time.Time, day, messages int) int64 {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(frameSize), zstd.WithLowerEncoderMem(true))
	if err != nil {
		t.Fatal(err)
	}
	var file, lines []byte
	var c chain
	var h header
	flush := func() {
		frame := enc.EncodeAll(lines, nil)
		h.length, h.raw, h.chain = uint32(len(frame)), uint32(len(lines)), c.next(frame)
		file = append(append(file, h.encode()...), frame...)
		c, h, lines = h.chain, header{}, lines[:0]
	}
	for i := range messages {
		at := begin.Add(24 * time.Hour * time.Duration(i) / time.Duration(messages))
		if h.lines > 0 && at.Sub(h.from) >= frameEvery {
			flush()
		}
		r := bulky(at, day, i)
		for _, r := range []Record{accepted(&r), r} {
			lines = r.line(lines)
			h.note(at)
		}
	}
	flush()
	if err := os.WriteFile(filepath.Join(dir, begin.Format(time.DateOnly)+fileSuffix), file, 0o600); err != nil {
		t.Fatal(err)
	}
	return int64(len(file))
}

// accepted is the record of the message of a delivery.
func accepted(r *Record) Record {
	return Record{At: r.At, Kind: Accepted, QueueID: r.QueueID, MessageID: r.MessageID, From: r.From, To: r.To, Size: r.Size, Client: "192.0.2.25", ClientTLS: "TLS 1.3"}
}

// bulky is a delivery as a record has it, of about 550 octets.
func bulky(at time.Time, day, i int) Record {
	return Record{
		At: at, Kind: Attempt, QueueID: fmt.Sprintf("01KAR7M3QVJ0Z6%06d%06d", day, i), MessageID: fmt.Sprintf("<%d.%d.abcdef@exchange.example.com>", day, i*7919),
		From: fmt.Sprintf("user%d@example.com", i%500), To: []string{fmt.Sprintf("kurt%d@partner%d.example", i%9973, i%700)}, Domain: fmt.Sprintf("partner%d.example", i%700),
		Size: int64(10000 + i), Verdict: "delivered", Host: fmt.Sprintf("mx1.partner%d.example", i%700), IP: "192.0.2.1", Reply: fmt.Sprintf("250 2.0.0 OK queued as %08X", i*2654435761),
		Status: "2.0.0", Number: 1, Took: 0.25,
		TLS: &TLS{Version: "TLS 1.3", Cipher: "TLS_AES_256_GCM_SHA384", Group: "X25519MLKEM768", Proof: ProofSTS, PolicyID: "20261101", PolicyMode: "enforce"},
	}
}
