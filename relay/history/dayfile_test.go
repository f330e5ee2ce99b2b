package history

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

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
