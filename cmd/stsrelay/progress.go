package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/stsrelay/stsrelay/internal/human"
)

const (
	progressAfter = time.Second            // what is over before shows nothing
	progressEvery = 250 * time.Millisecond // between two looks
	progressBar   = 24                     // characters of the bar
)

// progress shows on the terminal at standard error how far a command is. A nil progress shows
// nothing: there is no terminal.
type progress struct {
	terminal *os.File
	what     string
	total    int64              // 0: it is not known
	unit     func(int64) string // writes a number; nil: nothing is counted
	begun    time.Time
	done     atomic.Int64
	stop     chan struct{}
	drawing  sync.WaitGroup

	mu    sync.Mutex // guards the line on the terminal
	shown bool
}

// progress begins to show how far something is; end must follow. total is how much there is
// to be done, 0 where that is not known.
func (a *app) progress(what string, total int64, unit func(int64) string) *progress {
	f, ok := a.rawErr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || slices.Contains(a.environ, "TERM=dumb") {
		return nil
	}
	p := &progress{terminal: f, what: what, total: total, unit: unit, begun: time.Now(), stop: make(chan struct{})}
	p.drawing.Go(p.run)
	return p
}

// number is the unit of what is counted one by one.
func number(n int64) string { return strconv.FormatInt(n, 10) }

func (p *progress) run() {
	t := time.NewTimer(progressAfter)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-t.C:
			p.draw()
			t.Reset(progressEvery)
		}
	}
}

// add takes note that n more are done.
func (p *progress) add(n int64) {
	if p != nil {
		p.done.Add(n)
	}
}

// reader counts what is read from r.
func (p *progress) reader(r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return &progressReader{r, p}
}

type progressReader struct {
	io.Reader
	p *progress
}

func (r *progressReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.p.add(int64(n))
	return n, err
}

// print calls fn, which prints lines, while nothing is shown.
func (p *progress) print(fn func() error) error {
	if p == nil {
		return fn()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
	return fn()
}

// end removes what is shown.
func (p *progress) end() {
	if p == nil {
		return
	}
	close(p.stop)
	p.drawing.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
}

func (p *progress) clearLocked() {
	if p.shown {
		_, _ = io.WriteString(p.terminal, "\r"+clearLine)
		p.shown = false
	}
}

func (p *progress) draw() {
	width, _, err := term.GetSize(int(p.terminal.Fd()))
	if err != nil || width < 2 {
		width = 80
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = true
	_, _ = io.WriteString(p.terminal, "\r"+human.Shorten(p.line(time.Since(p.begun)), width-1)+clearLine)
}

// line is what is shown after some time.
func (p *progress) line(took time.Duration) string {
	done := p.done.Load()
	switch {
	case p.unit == nil:
		return fmt.Sprintf("%s: at work for %s", p.what, human.Span(took))
	case p.total <= 0:
		return fmt.Sprintf("%s: %s in %s", p.what, p.unit(done), human.Span(took))
	}
	done = min(done, p.total)
	full := int(progressBar * done / p.total)
	bar := strings.Repeat("#", full) + strings.Repeat("-", progressBar-full)
	left := ""
	if done > 0 && done < p.total {
		left = ", " + human.Span(time.Duration(float64(took)*float64(p.total-done)/float64(done))) + " left"
	}
	return fmt.Sprintf("%s: [%s] %s of %s%s", p.what, bar, p.unit(done), p.unit(p.total), left)
}
