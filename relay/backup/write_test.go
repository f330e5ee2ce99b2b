package backup

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/memory"
)

// boundedFile is a file that takes so many octets and no more.
type boundedFile struct {
	*os.File
	left int
}

func (f *boundedFile) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("the file grows without end")
	}
	return f.File.Write(p)
}

// write makes a file of random octets, which cannot be compressed.
func write(t *testing.T, name string, size int) []byte {
	t.Helper()
	content := make([]byte, size)
	_, _ = rand.Read(content) // it never fails
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	return content
}

// A backup that is written into data_dir, and does not know it, comes to an end.
func TestABackupOfAFileThatGrowsEnds(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "first"), 2<<20)
	f, err := os.Create(filepath.Join(dir, "second"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := NewWriter(&boundedFile{f, 16 << 20}, Manifest{})
	if err == nil {
		err = b.Data(dir, func(string, fs.FileInfo) bool { return true })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Folders of data_dir may lie elsewhere, and links may lead back.
func TestLinksInDataDirAreFollowed(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	key := write(t, filepath.Join(elsewhere, "key.pem"), 100)
	for link, to := range map[string]string{
		filepath.Join(dir, "data"):           elsewhere,
		filepath.Join(elsewhere, "round"):    elsewhere,
		filepath.Join(elsewhere, "gone"):     filepath.Join(dir, "nothing"),
		filepath.Join(elsewhere, "link.pem"): "key.pem",
		filepath.Join(elsewhere, "folder"):   dir,
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "large.ca"), maxText+10)
	large := filepath.Join(dir, "large.ca")
	out := backUp(t, filepath.Join(dir, "data"), large)
	b, err := Open(bytes.NewReader(out), nil)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(large)
	if err == nil {
		err = os.Remove(large)
	}
	if err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(t.TempDir(), "data")
	if _, err := b.Restore(t.Context(), RestoreOptions{DataDir: restored, OpenStore: func(string) (ClosableStore, error) { return new(memory.Place).Open(), nil }}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{
		filepath.Join(restored, "key.pem"):  key,
		filepath.Join(restored, "link.pem"): key,
		large:                               content,
	} {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d octets instead of %d: %v", name, len(got), len(want), err)
		}
	}
	if _, err := os.Stat(filepath.Join(restored, "round")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link that leads back was followed: %v", err)
	}
}

// backUp returns a backup of a data folder without records, and of a file beside it.
func backUp(t *testing.T, dataDir, file string) []byte {
	t.Helper()
	var out, records bytes.Buffer
	b, err := NewWriter(&out, Manifest{CreatedAt: time.Unix(1_700_000_000, 0), DataDir: dataDir, Files: []File{{Path: file}}})
	if err == nil {
		_, err = NewRecordWriter(&records).Close()
	}
	if err == nil {
		_, err = b.Store(&records)
	}
	if err == nil {
		err = b.Data(dataDir, func(name string, _ fs.FileInfo) bool { return name != "folder" })
	}
	if err = errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
