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
	"slices"
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
// it. Links are followed: data_dir, or a part of it, may lie on another disk. What is neither
// a file nor a folder is passed over, and so is what goes away meanwhile.
func (b *Writer) Data(dataDir string, want func(name string, info fs.FileInfo) bool) error {
	info, err := os.Stat(dataDir)
	if err != nil {
		return err
	}
	return b.folder(dataDir, "", []fs.FileInfo{info}, want)
}

// folder is Data for one folder with a name. way are the folders on the way to it, itself
// included: a link to one of them would lead round and round.
func (b *Writer) folder(dir, name string, way []fs.FileInfo, want func(string, fs.FileInfo) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		file, name := filepath.Join(dir, e.Name()), path.Join(name, e.Name())
		info, err := os.Stat(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case !want(name, info):
			continue
		case info.Mode().IsRegular():
			err = b.file(file, name, info.Size())
		case info.IsDir() && !slices.ContainsFunc(way, func(above fs.FileInfo) bool { return os.SameFile(above, info) }):
			err = b.folder(file, name, append(slices.Clone(way), info), want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file adds the first size octets of a file in data_dir. What others append meanwhile has no
// end where the two write into each other.
func (b *Writer) file(file, name string, size int64) error {
	f, err := os.Open(file) //nolint:gosec // whoever may write to data_dir may do this program all harm anyway
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return b.stream(path.Join(nameData, name), io.LimitReader(f, size))
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
