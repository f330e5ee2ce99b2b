package history

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

const (
	// queueLength is the largest number of records that wait to be written.
	queueLength = 10_000
	frameSize   = 256 << 10
	frameEvery  = time.Second
	tidyEvery   = 10 * time.Minute
)

// Options configures Open. Dir is required.
type Options struct {
	// Dir is the folder of the day files. It is created if it does not exist.
	Dir string
	// Key is the secret for AddressesHashed; nil: one is generated and stored in Dir.
	Key []byte
	Settings
	// CheckSpace returns an error while the disk has no room for the history, because
	// the queue needs the rest. nil: space is not checked.
	CheckSpace func(octets int64) error
	// Now is the wall clock; default time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Settings may be changed while the history is open.
type Settings struct {
	// Keep is how long a record is kept; 0: nothing is written.
	Keep time.Duration
	// Size bounds all files together, in octets; the oldest day is deleted first. 0:
	// no bound.
	Size      int64
	Addresses Addresses
	// Subject reports whether the Subject of each accepted message is kept.
	Subject bool
}

// Log writes the history. Its methods may be called from many goroutines.
type Log struct {
	o        Options
	settings atomic.Pointer[Settings]
	records  chan *Record
	orders   chan order
	dropped  atomic.Uint64
	failure  atomic.Pointer[string]
	// shortened is the result of Shortened.
	shortened atomic.Pointer[time.Time]

	certificates certificates
	refusals     refusals

	mu     sync.RWMutex // held while a record is handed over, so that Close comes after
	closed bool
	done   chan struct{}
}

// order is a function that the writer goroutine runs between two records.
type order struct {
	do   func(w *writer) error
	done chan error
}

// ErrClosed is the error after Close.
var ErrClosed = phrase.Errorf("the history is closed")

// runningFile exists while a process writes the history, and has the time when that began. If
// it exists at a start, the process before was killed.
const runningFile = "running"

// Open opens the history of a folder and starts its writer.
func Open(o Options) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CheckSpace == nil {
		o.CheckSpace = func(int64) error { return nil }
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the history: %w", err)
	}
	if o.Key == nil {
		var err error
		if o.Key, err = ownKey(filepath.Join(o.Dir, keyFile)); err != nil {
			return nil, err
		}
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(frameSize), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	l := &Log{o: o, records: make(chan *Record, queueLength), orders: make(chan order), done: make(chan struct{})}
	l.Set(o.Settings)
	w := &writer{l: l, enc: enc}
	if err := w.begin(); err != nil {
		return nil, errors.Join(err, enc.Close())
	}
	go w.run()
	return l, nil
}

// keyFile is the name of the file with the secret for AddressesHashed.
const keyFile = "key"

// ownKey reads the secret from a file. If the file has none, it generates the secret and
// writes the file.
func ownKey(name string) ([]byte, error) {
	key, err := os.ReadFile(name)
	if err == nil && len(key) >= 16 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the key of the history: %w", err)
	}
	key = []byte(rand.Text())
	if err := os.WriteFile(name, key, 0o600); err != nil {
		return nil, fmt.Errorf("the key of the history: %w", err)
	}
	return key, nil
}

// Set changes the settings. Records that were written before do not change.
func (l *Log) Set(s Settings) { l.settings.Store(&s) }

// Settings returns the settings in force.
func (l *Log) Settings() Settings { return *l.settings.Load() }

// Add queues a record for the writer. It never waits: if the queue is full, the record is
// dropped and counted. r and the values that it points to must not be changed after the
// call.
func (l *Log) Add(r Record) {
	if l.settings.Load().Keep == 0 {
		return
	}
	if r.At.IsZero() {
		r.At = l.o.Now()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return
	}
	select {
	case l.records <- &r:
	default:
		l.dropped.Add(1)
	}
}

// Dropped returns the number of records since the start that were not written, because
// the queue was full or writing failed.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Failure returns the reason why records cannot be written now, "" if they can.
func (l *Log) Failure() string {
	if s := l.failure.Load(); s != nil {
		return *s
	}
	return ""
}

// Shortened returns the end of the last day that was deleted because of the size bound
// although it was younger than Settings.Keep; the zero time if there was none.
func (l *Log) Shortened() time.Time {
	if t := l.shortened.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// Sync waits until all records that were added before the call are on the disk or were
// dropped.
func (l *Log) Sync(ctx context.Context) error {
	return l.order(ctx, func(w *writer) error {
		w.drain()
		return w.flush()
	})
}

func (l *Log) order(ctx context.Context, do func(w *writer) error) error {
	o := order{do, make(chan error, 1)}
	select {
	case l.orders <- o:
	case <-l.done:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return <-o.done
}

// Close writes the queued records and ends the writer.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.done
		return nil
	}
	l.closed = true
	close(l.records)
	l.mu.Unlock()
	<-l.done
	if s := l.Failure(); s != "" {
		return fmt.Errorf("close the history: %s", s)
	}
	return nil
}

// writer is the state of the one goroutine that changes the files.
type writer struct {
	l        *Log
	enc      *zstd.Encoder
	day      *dayFile
	lines    []byte
	head     header
	lost     header // number and times of the records that could not be written
	nextTidy time.Time
}

// begin adds a Gap record if the process before was killed, unless nothing is written.
func (w *writer) begin() error {
	o := w.l.o
	now := o.Now().UTC()
	if err := removeUnfinished(o.Dir); err != nil {
		return err
	}
	marker := filepath.Join(o.Dir, runningFile)
	before, err := os.ReadFile(marker)
	killed := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open the history: %w", err)
	}
	if killed && w.l.Settings().Keep > 0 {
		if err := w.addGap(before, now); err != nil {
			return err
		}
	}
	if err := os.WriteFile(marker, now.AppendFormat(nil, time.RFC3339Nano), 0o600); err != nil {
		return fmt.Errorf("open the history: %w", err)
	}
	return nil
}

// addGap writes a Gap record of a process that was killed. marker is what its runningFile has.
func (w *writer) addGap(marker []byte, now time.Time) error {
	from, err := w.lastWritten()
	if err != nil {
		return err
	}
	// The process before may have ended before it wrote anything.
	if began, err := time.Parse(time.RFC3339Nano, string(marker)); err == nil && began.After(from) {
		from = began
	}
	if !from.IsZero() {
		w.add(&Record{At: now, Kind: Gap, MissingFrom: &from, MissingTo: &now})
		_ = w.flush() // at once: this process may be killed as well; flush has logged the error
	}
	return nil
}

// lastWritten returns the time of the last record of the last file, after it has cut off an
// unfinished frame there; the zero time if there is none.
func (w *writer) lastWritten() (at time.Time, err error) {
	list, err := days(w.l.o.Dir)
	if err != nil || len(list) == 0 {
		return at, err
	}
	last, err := openDay(w.l.o.Dir, list[len(list)-1].day)
	if err != nil {
		return at, err
	}
	defer last.f.Close()
	places, _, _, err := frames(last.f, last.size)
	if err != nil || len(places) == 0 {
		return at, err
	}
	return places[len(places)-1].to, nil
}

func (w *writer) run() {
	defer close(w.l.done)
	timer := time.NewTimer(frameEvery)
	defer timer.Stop()
	for {
		select {
		case r, ok := <-w.l.records:
			if !ok {
				w.end()
				return
			}
			if len(w.lines) == 0 {
				timer.Reset(frameEvery)
			}
			w.add(r)
		case <-timer.C:
			_ = w.flush() // flush has logged the error
			w.tidy()
			timer.Reset(tidyEvery)
		case o := <-w.l.orders:
			o.done <- o.do(w)
		}
	}
}

// drain adds the records that are in the queue now.
func (w *writer) drain() {
	for {
		select {
		case r, ok := <-w.l.records:
			if !ok {
				return
			}
			w.add(r)
		default:
			return
		}
	}
}

func (w *writer) end() {
	err := w.flush()
	if w.day != nil {
		err = errors.Join(err, w.day.f.Close())
	}
	err = errors.Join(err, w.enc.Close(), os.Remove(filepath.Join(w.l.o.Dir, runningFile)))
	if err != nil {
		w.l.o.Logger.Error("the history could not be closed", "error", err)
	}
}

// add adds a record to the next frame.
func (w *writer) add(r *Record) {
	r.At = r.At.UTC().Round(0)
	if w.head.lines > 0 && !sameDay(r.At, w.head.to) {
		_ = w.flush() // a frame has records of one day only
	}
	s := w.l.Settings()
	masked := s.Addresses.mask(r, w.l.o.Key)
	w.lines = masked.line(w.lines)
	w.head.note(r.At)
	if len(w.lines) >= frameSize {
		_ = w.flush()
	}
}

// sameDay reports whether two times, both in UTC, are of one day.
func sameDay(a, b time.Time) bool { return a.YearDay() == b.YearDay() && a.Year() == b.Year() }

// note counts a record and includes its time.
func (h *header) note(at time.Time) {
	if h.lines == 0 || at.Before(h.from) {
		h.from = at
	}
	if h.lines == 0 || at.After(h.to) {
		h.to = at
	}
	h.lines++
}

// flush writes the frame. If that fails, the records are dropped and counted, and a Gap
// record follows when writing works again.
func (w *writer) flush() error {
	if w.head.lines == 0 {
		return nil
	}
	err := w.write()
	if err != nil {
		w.l.dropped.Add(uint64(w.head.lines))
		if w.lost.lines == 0 {
			w.l.o.Logger.Error("the history cannot be written; mail goes on", "lines", w.head.lines, "error", err)
		}
		w.lost.note(w.head.from)
		w.lost.note(w.head.to)
		w.lost.lines += w.head.lines - 2
		s := err.Error()
		w.l.failure.Store(&s)
	}
	w.lines, w.head = w.lines[:0], header{}
	return err
}

func (w *writer) write() error {
	if w.lost.lines > 0 {
		from, to := w.lost.from, w.lost.to
		gap := Record{At: to, Kind: Gap, MissingFrom: &from, MissingTo: &to, Lines: uint64(w.lost.lines)}
		w.lines = append(gap.line(nil), w.lines...)
		w.head.note(to)
		defer func() { w.head.lines-- }() // a Gap that is not written must not count as a lost record
	}
	if err := w.l.o.CheckSpace(int64(len(w.lines))); err != nil {
		return err
	}
	if err := w.openFor(w.head.to); err != nil {
		return err
	}
	if err := w.day.append(w.enc, w.lines, w.head); err != nil {
		return err
	}
	if w.lost.lines > 0 {
		w.l.o.Logger.Info("the history is written again", "lines_lost", w.lost.lines)
	}
	w.lost = header{}
	w.l.failure.Store(nil)
	return nil
}

// openFor opens the file of a day if it is not open yet.
func (w *writer) openFor(at time.Time) error {
	day := at.Format(time.DateOnly)
	if w.day != nil && w.day.day == day {
		return nil
	}
	if err := w.closeDay(); err != nil {
		return err
	}
	var err error
	w.day, err = openDay(w.l.o.Dir, day)
	return err
}

func (w *writer) closeDay() error {
	if w.day == nil {
		return nil
	}
	err := w.day.f.Close()
	w.day = nil
	if err != nil {
		return fmt.Errorf("close a file of the history: %w", err)
	}
	return nil
}

// tidy deletes the days that are too old, and the oldest days if all files together are
// too large. The current day stays.
func (w *writer) tidy() {
	now := w.l.o.Now().UTC()
	if now.Before(w.nextTidy) {
		return
	}
	w.nextTidy = now.Add(tidyEvery)
	if err := w.deleteOld(now, w.l.Settings()); err != nil {
		w.l.o.Logger.Error("old history could not be deleted", "error", err)
	}
}

func (w *writer) deleteOld(now time.Time, s Settings) error {
	list, err := days(w.l.o.Dir)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, d := range list {
		total += d.size
	}
	for _, d := range list {
		begin, err := time.Parse(time.DateOnly, d.day)
		if err != nil {
			return err
		}
		end := begin.AddDate(0, 0, 1)
		tooOld, tooLarge := now.Sub(end) >= s.Keep, s.Size > 0 && total > s.Size
		if end.After(now) || !tooOld && !tooLarge {
			return nil
		}
		if w.day != nil && w.day.day == d.day {
			if err := w.closeDay(); err != nil {
				return err
			}
		}
		if err := os.Remove(filepath.Join(w.l.o.Dir, d.day+fileSuffix)); err != nil {
			return err
		}
		total -= d.size
		if !tooOld {
			w.l.shortened.Store(&end)
			w.l.o.Logger.Warn("a day of the history was deleted before its time: the history is larger than its bound", "day", d.day, "bound", s.Size)
		}
	}
	return nil
}
