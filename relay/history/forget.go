package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// forgotten replaces the local part of an address that was removed.
const forgotten = "forgotten"

// Forget removes an address from all records, and returns the number of records that had
// it. The local part is replaced; the domain stays. With dryRun nothing is changed. A
// changed file gets a Forgot record and a new chain.
func (l *Log) Forget(ctx context.Context, address string, dryRun bool) (lines int, err error) {
	if !strings.Contains(address, "@") {
		return 0, fmt.Errorf("%q is no mail address", address)
	}
	err = l.order(ctx, func(w *writer) error {
		w.drain()
		if err := w.flush(); err != nil {
			return err
		}
		list, err := days(l.o.Dir)
		if err != nil {
			return err
		}
		for _, d := range list {
			n, err := w.forget(d.day, address, dryRun)
			lines += n
			if err != nil {
				return fmt.Errorf("take an address out of the history of %s: %w", d.day, err)
			}
		}
		return nil
	})
	return lines, err
}

// forget rewrites the file of one day if it contains the address.
func (w *writer) forget(day, address string, dryRun bool) (int, error) {
	m := matcher{key: w.l.o.Key}
	r, err := newReader()
	if err != nil {
		return 0, err
	}
	defer r.close()
	name := filepath.Join(w.l.o.Dir, day+fileSuffix)
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	list, _, _, err := frames(f, info.Size())
	if err != nil {
		return 0, err
	}
	var changed [][]byte // the lines of each frame
	total := 0
	for _, p := range list {
		frame, err := readFrame(f, p)
		if err != nil {
			return 0, err
		}
		raw, err := r.dec.DecodeAll(frame, nil)
		if err != nil {
			return 0, fmt.Errorf("a frame at octet %d is damaged: %w", p.offset, err)
		}
		lines, n := m.without(raw, address)
		total += n
		if dryRun {
			lines = nil
		}
		changed = append(changed, lines)
	}
	if total == 0 || dryRun {
		return total, nil
	}
	if w.day != nil && w.day.day == day {
		if err := w.closeDay(); err != nil {
			return 0, err
		}
	}
	return total, w.rewrite(name, list, changed, total)
}

// newSuffix is that of a file that will replace the one without it.
const newSuffix = ".new"

// removeUnfinished deletes the files that a process was writing anew when it was killed: nothing
// else would ever delete what they have, or take an address out of them.
func removeUnfinished(dir string) error {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if strings.HasSuffix(e.Name(), fileSuffix+newSuffix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("open the history: %w", err)
	}
	return nil
}

// rewrite replaces a file: it writes a new one under a second name and renames it.
func (w *writer) rewrite(name string, list []place, changed [][]byte, total int) (err error) {
	f, err := os.OpenFile(name+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(name+newSuffix))
		}
	}()
	d := &dayFile{f: f, day: filepath.Base(name)}
	for i, p := range list {
		if err := d.append(w.enc, changed[i], p.header); err != nil {
			return err
		}
	}
	at := list[len(list)-1].to
	note := Record{At: at, Kind: Forgot, Lines: uint64(total)}
	if err := d.append(w.enc, note.line(nil), header{lines: 1, from: at, to: at}); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(name+newSuffix, name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// without returns the lines of a frame without an address, and how many had it.
func (m *matcher) without(raw []byte, address string) (lines []byte, n int) {
	for line := range bytes.Lines(raw) {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			lines = append(lines, line...)
			continue
		}
		if !m.forgetIn(&r, address) {
			lines = append(lines, line...)
			continue
		}
		n++
		lines = r.line(lines)
	}
	return lines, n
}

// forgetIn removes an address from one record, and reports whether the record had it.
func (m *matcher) forgetIn(r *Record, address string) (had bool) {
	instead := forgotten + address[strings.LastIndexByte(address, '@'):]
	if m.same(r.From, address) {
		r.From, had = instead, true
	}
	for i, to := range r.To {
		if m.same(to, address) {
			r.To = slices.Clone(r.To)
			r.To[i], had = instead, true
		}
	}
	for _, text := range []*string{&r.Reply, &r.Error, &r.What, &r.User, &r.Subject} {
		clean := anyAddress.ReplaceAllStringFunc(*text, func(found string) string {
			if m.same(found, address) {
				return instead
			}
			return found
		})
		if clean != *text {
			*text, had = clean, true
		}
	}
	return had
}

// Chain returns the current value of a day's chain, which covers all frames of the day so
// far. whole reports whether all frames of the file match their chain values.
func (l *Log) Chain(ctx context.Context, day time.Time) (value string, whole bool, err error) {
	err = l.order(ctx, func(w *writer) error {
		w.drain()
		if err := w.flush(); err != nil {
			return err
		}
		value, whole, err = chainOf(filepath.Join(l.o.Dir, day.UTC().Format(time.DateOnly)+fileSuffix))
		return err
	})
	return value, whole, err
}

func chainOf(name string) (value string, whole bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", false, fmt.Errorf("look at the chain of the history: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", false, fmt.Errorf("look at the chain of the history: %w", err)
	}
	list, _, bad, err := frames(f, info.Size())
	if err != nil {
		return "", false, err
	}
	var c chain
	whole = bad == 0
	for _, p := range list {
		frame, err := readFrame(f, p)
		if err != nil {
			return "", false, err
		}
		c = c.next(frame)
		whole = whole && c == p.chain
		c = p.chain
	}
	return fmt.Sprintf("%x", c), whole, nil
}
