package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
)

// RestoreOptions configures Restore. DataDir and OpenStore are required.
type RestoreOptions struct {
	// DataDir is the folder to restore into: it is empty, or not there.
	DataDir string
	// Queue restores the mail too, held.
	Queue bool
	// KeepFiles leaves the files outside of data_dir that are there with another content. Else
	// they are an error.
	KeepFiles bool
	// OpenStore opens a new store of a data folder.
	OpenStore func(dataDir string) (ClosableStore, error)
}

// ClosableStore is an open store.
type ClosableStore interface {
	store.Store
	Close() error
}

// Restored is what Restore has done.
type Restored struct {
	Records Records
	// Files are the names of those written outside of data_dir. Kept were there with another
	// content, and Elsewhere belong to a service manager or a container's engine, which makes
	// them itself.
	Files, Kept, Elsewhere []string
	// Mail is what was imported, nil for nothing.
	Mail *queue.Transfer
}

// heldFor is why restored mail is held.
const heldFor = "restored on hold"

// recordBatch is how many records Restore writes in one transaction.
const recordBatch = 500

// Restore makes a data folder of a backup, and the files that its configuration names.
// Nothing is written where it returns an error about what is there already. Cut off, it
// leaves a mark in the folder, with which no relay starts.
func (b *Backup) Restore(ctx context.Context, o RestoreOptions) (out Restored, err error) {
	if err := checkEmpty(o.DataDir); err != nil {
		return out, err
	}
	files, err := b.planFiles(o, &out)
	if err != nil {
		return out, err
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return out, err
	}
	if err := writeFile(Restoring(o.DataDir), nil, 0o600); err != nil {
		return out, err
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil { //nolint:gosec // as /etc is; the files have modes of their own
			return out, err
		}
		if err := writeFile(f.Path, f.content, f.Mode); err != nil {
			return out, err
		}
		out.Files = append(out.Files, f.Path)
	}
	if err := b.restoreData(o.DataDir); err != nil {
		return out, err
	}
	s, err := o.OpenStore(o.DataDir)
	if err != nil {
		return out, err
	}
	err = b.restoreStore(ctx, s, &out)
	if err == nil && o.Queue && b.Manifest.Queue {
		err = b.restoreQueue(ctx, s, &out)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return out, err
	}
	return out, errors.Join(os.Remove(Restoring(o.DataDir)), syncFolder(o.DataDir))
}

// checkEmpty returns an error where a folder has anything in it; what a file system has at
// its root does not count.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return fmt.Errorf("%s is not empty (%s is in it): a backup is restored into an empty data_dir only; name another with --data-dir, or move that one away", dir, e.Name())
		}
	}
	return err
}

// plannedFile is a file outside of data_dir that will be written.
type plannedFile struct {
	File
	content []byte
}

// planFiles reads the files that the configuration names, and compares them with those that
// are there.
func (b *Backup) planFiles(o RestoreOptions, out *Restored) (plan []plannedFile, err error) {
	contents := make(map[string][]byte)
	if err := b.walk(func(name string, r io.Reader) (err error) {
		if strings.HasPrefix(name, nameFiles+"/") {
			contents[name], err = io.ReadAll(r)
		}
		return err
	}); err != nil {
		return nil, err
	}
	var other []string
	for _, f := range b.Manifest.Files {
		content, ok := contents[f.Entry]
		if !ok || !filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Path {
			return nil, fmt.Errorf("%w: the file %q that it speaks of", ErrTorn, f.Path)
		}
		if strings.HasPrefix(f.Path, "/run/") {
			out.Elsewhere = append(out.Elsewhere, f.Path)
			continue
		}
		present, err := os.ReadFile(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			plan = append(plan, plannedFile{f, content})
		case err != nil:
			return nil, err
		case !bytes.Equal(present, content) && o.KeepFiles:
			out.Kept = append(out.Kept, f.Path)
		case !bytes.Equal(present, content):
			other = append(other, f.Path)
		}
	}
	if len(other) > 0 {
		return nil, fmt.Errorf("these files are there with another content: %s; move them away, or keep them with --keep-files", strings.Join(other, ", "))
	}
	return plan, nil
}

// restoreData writes the files of data_dir.
func (b *Backup) restoreData(dataDir string) error {
	return b.walk(func(name string, r io.Reader) error {
		rel, ok := strings.CutPrefix(name, nameData+"/")
		if !ok {
			return nil
		}
		rel, number, ok := splitPart(rel)
		if !ok {
			return fmt.Errorf("%w: the name %q", ErrTorn, name)
		}
		file := filepath.Join(dataDir, filepath.FromSlash(rel))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		flag := os.O_APPEND
		if number == 1 {
			flag = os.O_CREATE | os.O_EXCL
		}
		f, err := os.OpenFile(file, os.O_WRONLY|flag, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Sync(), f.Close())
	})
}

// part calls fn with the contents of all entries of a part, one after the other.
func (b *Backup) part(name string, fn func(io.Reader) error) error {
	r, w := io.Pipe()
	walked := make(chan struct{})
	go func() {
		defer close(walked)
		_ = w.CloseWithError(b.walk(func(entry string, content io.Reader) error {
			if base, _, ok := splitPart(entry); !ok || base != name {
				return nil
			}
			_, err := io.Copy(w, content)
			return err
		}))
	}()
	err := fn(r)
	_ = r.Close()
	<-walked
	return err
}

func (b *Backup) restoreStore(ctx context.Context, s store.Store, out *Restored) error {
	batch := new(store.Batch)
	err := b.part(nameStore, func(r io.Reader) (err error) {
		out.Records, err = ReadRecords(r, func(key, value []byte) error {
			batch.Set(bytes.Clone(key), bytes.Clone(value))
			if batch.Len() < recordBatch {
				return nil
			}
			full := batch
			batch = new(store.Batch)
			return store.Commit(ctx, s, full)
		})
		return err
	})
	if err == nil && batch.Len() > 0 {
		err = store.Commit(ctx, s, batch)
	}
	return err
}

func (b *Backup) restoreQueue(ctx context.Context, s store.Store, out *Restored) error {
	q, err := queue.Open(queue.Options{Store: s, Paused: true})
	if err != nil {
		return err
	}
	defer q.Close()
	return b.part(nameQueue, func(r io.Reader) error {
		t, err := q.Import(ctx, r, heldFor)
		out.Mail = &t
		if err == nil && !t.Complete {
			err = fmt.Errorf("%w: the end of the queue's export is missing", ErrTorn)
		}
		return err
	})
}

// writeFile makes a file that is not there, and waits until it is on the disk.
func writeFile(name string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode.Perm())
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Chmod(mode.Perm()), f.Sync(), f.Close(), syncFolder(filepath.Dir(name)))
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
