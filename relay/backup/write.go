package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// Writer writes a backup, part by part.
type Writer struct {
	zip     *gzip.Writer
	tar     *tar.Writer
	created time.Time
	sums    bytes.Buffer
}

// NewWriter begins a backup. The files that m names are read at once.
func NewWriter(w io.Writer, m Manifest) (*Writer, error) {
	z := gzip.NewWriter(w)
	b := &Writer{zip: z, tar: tar.NewWriter(z), created: m.CreatedAt}
	contents := make([][]byte, len(m.Files))
	for i := range m.Files {
		f := &m.Files[i]
		data, err := os.ReadFile(f.Path)
		if err != nil {
			return nil, fmt.Errorf("a file that the configuration names: %w", err)
		}
		st, err := os.Stat(f.Path)
		if err != nil {
			return nil, err
		}
		contents[i] = data
		f.Mode = st.Mode().Perm()
		f.Entry = fmt.Sprintf("%s/%02d-%s", nameFiles, i, filepath.Base(f.Path))
	}
	m.Format = Format
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := b.entry(nameManifest, append(text, '\n')); err != nil {
		return nil, err
	}
	for i, f := range m.Files {
		if err := b.entry(f.Entry, contents[i]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// entry writes one entry of the archive, and its sum for the last one.
func (b *Writer) entry(name string, content []byte) error {
	h := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: b.created, Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(h); err != nil {
		return err
	}
	if _, err := b.tar.Write(content); err != nil {
		return err
	}
	_, err := fmt.Fprintf(&b.sums, "%x  %s\n", sha256.Sum256(content), name)
	return err
}

// stream writes a part whose size is not known.
func (b *Writer) stream(name string, r io.Reader) error {
	buf := make([]byte, chunk)
	for i := 1; ; i++ {
		n, err := io.ReadFull(r, buf)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		if n > 0 || i == 1 {
			if err := b.entry(fmt.Sprintf(partFormat, name, i), buf[:n]); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// Store adds the records of the store, as WriteRecords writes them.
func (b *Writer) Store(r io.Reader) (Records, error) {
	var found Records
	parts, w := io.Pipe()
	read := make(chan error, 1)
	go func() { // a stream that is cut off makes no backup
		var err error
		found, err = ReadRecords(parts, func([]byte, []byte) error { return nil })
		_ = parts.CloseWithError(err)
		read <- err
	}()
	err := b.stream(nameStore, io.TeeReader(r, w))
	_ = w.Close()
	return found, errors.Join(<-read, err)
}

// Queue adds an export of the queue.
func (b *Writer) Queue(r io.Reader) error { return b.stream(nameQueue, r) }

// Data adds the files below data_dir for which want returns true, by their names relative to
// it. What is no regular file is passed over, and so is a file that goes away meanwhile.
func (b *Writer) Data(dataDir string, want func(name string) bool) error {
	return filepath.WalkDir(dataDir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dataDir, file)
		if err != nil || name == "." {
			return err
		}
		if !want(filepath.ToSlash(name)) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(file) //nolint:gosec // whoever may write to data_dir may do this program all harm anyway
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return b.stream(path.Join(nameData, filepath.ToSlash(name)), f)
	})
}

// Close writes the sums and ends the backup.
func (b *Writer) Close() error {
	h := &tar.Header{Name: nameSums, Mode: 0o600, Size: int64(b.sums.Len()), ModTime: b.created, Format: tar.FormatPAX}
	err := b.tar.WriteHeader(h)
	if err == nil {
		_, err = b.tar.Write(b.sums.Bytes())
	}
	return errors.Join(err, b.tar.Close(), b.zip.Close())
}
