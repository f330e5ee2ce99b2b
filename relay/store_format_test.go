package relay_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// TestWriteStore writes the store that TestStoresOfEveryFormatAreRead reads, as the
// program of now writes it: a message that waits after an attempt, one that is held, one in
// the trash, a policy, and a report count.
//
//	STSRELAY_WRITE_STORE=testdata/store/format-1.tar.gz go test -run TestWriteStore ./relay
func TestWriteStore(t *testing.T) {
	file := os.Getenv("STSRELAY_WRITE_STORE")
	if file == "" {
		t.Skip("STSRELAY_WRITE_STORE is not set")
	}
	w := e2e.NewStopped(t)
	w.Start("retry = [\"1h\"]\n" + w.PublishKeys("ed25519"))
	mx := w.Host("mx1.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/in", Policy: e2e.PolicyFor("enforce", mx.Name)})
	w.SetFaults(mx, testnet.Faults{Recipients: map[string]string{"waits@a.example": "450 4.2.1 not now"}})
	w.Deliver("b@a.example")
	id, err := e2e.SendMail(w.Addr, "s@test.example", "Subject: long\r\n\r\n"+strings.Repeat("A line of a body that is kept apart.\r\n", 100), "waits@a.example")
	if err != nil {
		t.Fatal(err)
	}
	w.Deferred(id)
	for _, what := range []string{"hold", "remove"} {
		id := w.Send("s@test.example", "waits@a.example")
		w.Deferred(id)
		if err := w.Admin().Do(t.Context(), http.MethodPost, "/v1/queue/"+what, operator.Selection{IDs: []string{id}, Reason: "for the test"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.Stop()
	if err := os.WriteFile(file, pack(t, w.Dir), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pack returns the store of a data folder as a compressed archive.
func pack(t *testing.T, dataDir string) []byte {
	t.Helper()
	var out bytes.Buffer
	gz, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	tw := tar.NewWriter(gz)
	files, err := filepath.Glob(filepath.Join(dataDir, "queue*"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(relay.StoreDir(dataDir), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, more...) {
		data, err := os.ReadFile(name)
		if err != nil || filepath.Base(name) == "ballast" {
			continue // a folder
		}
		rel, err := filepath.Rel(dataDir, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(tw.WriteHeader(&tar.Header{Name: rel, Mode: 0o600, Size: int64(len(data))})); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A store that an earlier version has written is read as it was, and is of the present format
// after that.
func TestStoresOfEveryFormatAreRead(t *testing.T) {
	for _, format := range []string{"0", "1"} {
		t.Run("format "+format, func(t *testing.T) {
			t.Parallel()
			dataDir := unpack(t, filepath.Join("testdata", "store", "format-"+format+".tar.gz"))
			for range 2 { // as it was, and after the migration
				st, err := badger.Open(badger.Options{Dir: relay.StoreDir(dataDir), Version: "test"})
				if err != nil {
					t.Fatal(err)
				}
				checkStore(t, st)
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// checkStore reads what TestWriteStore has written.
func checkStore(t *testing.T, st *badger.Store) {
	t.Helper()
	value, err := store.Get(st, store.KeyFormat)
	if err != nil {
		t.Fatal(err)
	}
	if w, err := store.ReadWritten(value); err != nil || w != (store.Written{Format: store.Format, By: "test"}) {
		t.Errorf("the store says %+v, %v", w, err)
	}
	q, err := queue.Open(queue.Options{Store: st, TrashSize: 1 << 20, Paused: true})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var waits, held int
	err = q.List(t.Context(), queue.Filter{}, func(m queue.Message) bool {
		if m.From != "s@test.example" || m.Recipients[0].Address != "waits@a.example" || m.States[0].Attempts != 1 || !strings.Contains(m.States[0].LastError, "450 4.2.1 not now") {
			t.Errorf("a message: %+v", m)
		}
		if m.HeldFor == "for the test" {
			held++
			return true
		}
		waits++
		body, err := q.Open(m.ID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(body)
		if err != nil || strings.Count(string(text), "A line of a body that is kept apart.\r\n") != 100 {
			t.Errorf("the body: %v, %d octets", err, len(text))
		}
		return true
	})
	if err != nil || waits != 1 || held != 1 {
		t.Errorf("%d messages wait, %d are held: %v", waits, held, err)
	}
	entry, err := store.Get(st, append(slices.Clone(store.PrefixPolicy), "a.example"...))
	if err != nil || !strings.Contains(string(entry), "mx1.a.example") {
		t.Errorf("the policy: %q, %v", entry, err)
	}
	reports, err := tlsrpt.New(tlsrpt.Options{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	var counts []string
	if err := reports.List(t.Context(), "", "a.example", func(s tlsrpt.Status) bool {
		counts = append(counts, fmt.Sprint(s.Sessions, s.Failures))
		return true
	}); err != nil || len(counts) != 1 || counts[0] != "1 0" {
		t.Errorf("the counts of reports: %v, %v", counts, err)
	}
}

// unpack makes a data folder with the store in an archive that pack made.
func unpack(t *testing.T, file string) (dataDir string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dataDir = t.TempDir()
	if err := os.Mkdir(relay.StoreDir(dataDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return dataDir
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dataDir, filepath.FromSlash(h.Name)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
