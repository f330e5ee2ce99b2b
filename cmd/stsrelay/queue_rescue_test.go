package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
)

// storeOfThree makes a store with a message to each of anna, bert and carl, and returns what
// closes it.
func storeOfThree(t *testing.T, dir string) (closeStore func()) {
	t.Helper()
	st, err := badger.Open(badger.Options{Dir: relay.StoreDir(dir)})
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(queue.Options{Store: st, Paused: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"anna", "bert", "carl"} {
		in, err := q.Begin()
		if err != nil {
			t.Fatal(err)
		}
		head := "Received: from x by relay with ESMTP id " + in.ID().String() + " for <" + who + "@b.example>; now\r\nFrom: " + who + "@a.example\r\n\r\n"
		if _, err := in.Write([]byte(head + strings.Repeat(who+" ", 1000))); err != nil {
			t.Fatal(err)
		}
		if err := in.Commit(t.Context(), queue.Envelope{From: who + "@a.example", Recipients: []queue.Recipient{{Address: who + "@b.example", Domain: "b.example"}}}); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		q.Close()
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// queue rescue exports the sound messages of a damaged store and names the others. The
// store may be moved away after that.
func TestRescueTakesOutWhatIsSoundAndNamesTheRest(t *testing.T) {
	dir := t.TempDir()
	closeStore := storeOfThree(t, dir)
	export := filepath.Join(t.TempDir(), "rescued")
	rescue := func(args ...string) result {
		return command(t, "", append([]string{"queue", "rescue", "--data-dir", dir, export}, args...)...)
	}
	if r := rescue(); r.status != 1 || !strings.Contains(r.err, "in use by another process") {
		t.Errorf("while it is open: %+v", r)
	}
	closeStore()
	table := theTable(t, relay.StoreDir(dir))
	spoil(t, table, "bert@a.example")
	spoil(t, filepath.Join(relay.StoreDir(dir), "000001.vlog"), "carl carl")
	offline(t, dir)
	r := rescue()
	if r.status != 0 || !strings.Contains(r.out, "damaged: "+filepath.Base(table)+": the block") || !strings.Contains(r.out, "rescued 1 of 3 messages") ||
		!strings.Contains(r.out, "from bert@a.example, to bert@b.example: its envelope is not there") || !strings.Contains(r.out, "from carl@a.example, to carl@b.example: its body is not whole: 1 of 1") {
		t.Errorf("%+v", r)
	}
	if r := rescue(); r.status != 1 || !strings.Contains(r.err, "there already") {
		t.Errorf("into a file that is there: %+v", r)
	}
	if err := os.Remove(export); err != nil {
		t.Fatal(err)
	}
	var got rescued
	if r := rescue("--json"); json.Unmarshal([]byte(r.out), &got) != nil || got.Messages != 1 || got.Expected != 3 || len(got.Lost) != 2 || len(got.Lost[0].ID) != 26 {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "queue", "import", "--check", export); r.status != 0 || !strings.Contains(r.out, "whole: 1 message") {
		t.Errorf("%+v", r)
	}
	if err := os.Rename(relay.StoreDir(dir), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	offline(t, filepath.Join(dir, "away"))
	st, err := badger.Open(badger.Options{Dir: relay.StoreDir(dir)})
	if err != nil {
		t.Fatalf("a new store in its place: %v", err)
	}
	st.Close()
	if r := command(t, "", "queue", "rescue", "--data-dir", filepath.Join(dir, "none"), export+"2"); r.status != 1 || !strings.Contains(r.err, "there is no store") {
		t.Errorf("%+v", r)
	}
}

// offline exports from the damaged store of the test, in a data_dir or moved away: nothing in
// it is changed, and what is lost is named.
func offline(t *testing.T, dir string) {
	t.Helper()
	before := contents(t, dir)
	export := filepath.Join(t.TempDir(), "offline")
	r := command(t, "", "queue", "export", "--data-dir", dir, export)
	for _, words := range []string{"exported 1 of 3 messages", "from bert@a.example, to bert@b.example: its envelope is not there", "from carl@a.example, to carl@b.example: its body is not whole"} {
		if !strings.Contains(r.out, words) {
			t.Errorf("the export does not say %q: %+v", words, r)
		}
	}
	if r.status != 1 || !strings.Contains(r.err, "2 messages could not be read") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "queue", "import", "--check", export); r.status != 0 || !strings.Contains(r.out, "whole: 1 message") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "queue", "export", "--data-dir", dir, "-"); !strings.HasPrefix(r.out, "stsrelay-queue-export 1\n") || !strings.Contains(r.err, "exported 1 of 3") {
		t.Errorf("to standard output: %+v", r)
	}
	if after := contents(t, dir); !maps.Equal(before, after) {
		t.Error("the export has changed the store")
	}
}

// contents returns the files below a folder: name → content.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// theTable returns the only table of a store that was closed. Badger may have compacted the
// first one meanwhile.
func theTable(t *testing.T, dir string) string {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("%q, %v", tables, err)
	}
	return tables[0]
}

// spoil changes the first octet of word in a file.
func spoil(t *testing.T, name, word string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), word)
	if at < 0 {
		t.Fatalf("no %q in %s", word, name)
	}
	data[at] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A store of a newer format is refused by serve, with exit status 1, and by queue rescue.
func TestServeRefusesAStoreOfANewerFormat(t *testing.T) {
	dir := t.TempDir()
	st, err := badger.Open(badger.Options{Dir: relay.StoreDir(dir)})
	if err != nil {
		t.Fatal(err)
	}
	err = store.Put(t.Context(), st, store.KeyFormat, store.Written{Format: store.Format + 2, By: "2.1"}.Encode())
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	want := "the store in " + relay.StoreDir(dir) + " was written by stsrelay 2.1 (format 3); this is dev (up to format 1): start the newer one, or export there and import here"
	file := filepath.Join(dir, "stsrelay.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--config", file}, {"queue", "rescue", "--data-dir", dir, filepath.Join(t.TempDir(), "out")}} {
		if r := command(t, "", args...); r.status != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// An export from a store whose value log is torn has every other message, and names those
// whose bodies are cut off.
func TestAnOfflineExportOfATornStore(t *testing.T) {
	dir := t.TempDir()
	storeOfThree(t, dir)()
	log := filepath.Join(relay.StoreDir(dir), "000001.vlog")
	info, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(log, info.Size()-100); err != nil {
		t.Fatal(err)
	}
	export := filepath.Join(t.TempDir(), "out")
	r := command(t, "", "queue", "export", "--data-dir", dir, export)
	if r.status != 1 || !strings.Contains(r.out, "exported 2 of 3 messages") || !strings.Contains(r.out, "to carl@b.example") || !strings.Contains(r.err, "1 message could not be read") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "queue", "import", "--check", export); r.status != 0 || !strings.Contains(r.out, "whole: 2 messages") {
		t.Errorf("%+v", r)
	}
}
