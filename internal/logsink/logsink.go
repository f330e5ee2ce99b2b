// Package logsink is a bounded buffer between a log and its reader. A reader that
// stalls, such as a full pipe behind standard error, would otherwise stop every
// goroutine that logs. One goroutine writes the lines of the buffer; lines that do not
// fit are dropped and counted.
package logsink

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"
)

// DefaultLimit is the default of Options.Limit: some ten thousand lines.
const DefaultLimit = 4 << 20

// Options configures New. Writer is required.
type Options struct {
	// Writer gets the lines.
	Writer io.Writer
	// Limit bounds the octets that wait; default DefaultLimit. As many again may
	// be under way to Writer.
	Limit int
	// Resumed is called, from the goroutine that writes, when lines get through
	// again after dropped ones; it may write a line to the Sink. nil: not called.
	Resumed func(s *Sink, dropped uint64)
	// Now is the wall clock; default time.Now.
	Now func() time.Time
}

// Sink is an io.Writer of whole lines that never waits. Its methods may be called
// from many goroutines.
type Sink struct {
	o    Options
	wake chan struct{} // has room for one
	done chan struct{} // closed when the last line was written, after Close

	mu      sync.Mutex
	lines   []byte
	closed  bool
	dropped Dropped
}

// Dropped counts lines that did not reach the reader.
type Dropped struct {
	// Lines is their number since the start.
	Lines uint64
	// Last is the time of the last one; zero: none was dropped.
	Last time.Time
}

// New starts a Sink. Close ends it.
func New(o Options) *Sink {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Sink{o: o, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s
}

// Write adds lines to the buffer, or drops them where there is no room. It never fails.
func (s *Sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.lines)+len(p) > s.o.Limit {
		s.drop(p)
		return len(p), nil
	}
	s.lines = append(s.lines, p...)
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
	return len(p), nil
}

// drop counts the lines of p. The lock is held.
func (s *Sink) drop(p []byte) {
	s.dropped.Lines += uint64(max(bytes.Count(p, []byte("\n")), 1))
	s.dropped.Last = s.o.Now()
}

// Dropped counts the lines that did not reach the reader so far.
func (s *Sink) Dropped() Dropped {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// state is the number of dropped lines, and whether there is room for a line about
// them.
func (s *Sink) state() (dropped uint64, room bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped.Lines, len(s.lines) < s.o.Limit/2
}

// Close ends the Sink: it waits until the lines of the buffer are written, or ctx ends.
// Where the reader stalls, the writing goroutine stays blocked in its write.
func (s *Sink) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.wake)
	}
	s.mu.Unlock()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes the lines, many at a time where they come fast.
func (s *Sink) run() {
	defer close(s.done)
	var spare []byte
	var told uint64 // dropped lines that Resumed knows of
	for {
		_, open := <-s.wake
		s.mu.Lock()
		lines := s.lines
		s.lines = spare[:0]
		s.mu.Unlock()
		ok := s.write(lines)
		if spare = lines; cap(spare) > s.o.Limit/16 {
			spare = nil // memory of a stall is not kept
		}
		if d, room := s.state(); open && ok && room && d > told && s.o.Resumed != nil {
			s.o.Resumed(s, d-told)
			told = d
		}
		if !open {
			return
		}
	}
}

// write writes lines and reports whether they got through.
func (s *Sink) write(lines []byte) bool {
	if len(lines) == 0 {
		return false
	}
	n, err := s.o.Writer.Write(lines)
	if err == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(lines[min(max(n, 0), len(lines)):])
	return false
}
