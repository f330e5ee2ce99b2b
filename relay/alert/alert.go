// Package alert tells the operator by mail what he would otherwise have to
// look for: mail that waits for the other side's mistake, a disk that runs full,
// a certificate that expires. It looks by itself, writes seldom, and remembers
// over restarts what it has told.
package alert

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/compose"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	lookEvery = 5 * time.Minute
	// mailEvery is the least time between two mails, tellEvery between two that
	// bring the same trouble.
	mailEvery = time.Hour
	tellEvery = 24 * time.Hour
)

// Trouble is something that is wrong and that somebody should know of.
type Trouble struct {
	// Key names it from one look to the next.
	Key string
	// What says in a sentence what is wrong, Helps what helps.
	What, Helps string
}

// Options configures New. All but Logger, Now and After are required.
type Options struct {
	Hostname string
	// To is the operator's address, "" for nobody.
	To func() string
	// Look finds all that is wrong now.
	Look func(context.Context) []Trouble
	// Queue puts a mail into the queue, together with what also adds to the commit;
	// its ID comes back.
	Queue func(to string, body []byte, also func(*store.Batch)) (id string, err error)
	Store *store.Store
	// Now and After are the clock; nil: time.Now and time.After.
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Logger *slog.Logger
}

// Watch looks for trouble and tells of it.
type Watch struct {
	o Options
	// told is by key when the operator was told last, and of what.
	told map[string]told

	mu      sync.Mutex
	present []Trouble
}

type told struct {
	At   time.Time `cbor:"1,keyasint"`
	What string    `cbor:"2,keyasint"`
}

// New returns a Watch that knows what was told before a restart.
func New(o Options) (*Watch, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watch{o: o, told: make(map[string]told)}
	value, err := o.Store.Get(key())
	if err == nil && value != nil {
		err = cbor.Unmarshal(value, &w.told)
	}
	if err != nil {
		return nil, fmt.Errorf("what the operator was told: %w", err)
	}
	return w, nil
}

func key() []byte { return slices.Concat(store.PrefixOperator, []byte("told")) }

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			w.o.Logger.Error("the operator could not be told of trouble; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.o.After(lookEvery):
		}
	}
}

// Present is what was wrong at the last look.
func (w *Watch) Present() []Trouble {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.present
}

// look looks once, and writes a mail where there is something to tell.
func (w *Watch) look(ctx context.Context) error {
	present := w.o.Look(ctx)
	w.mu.Lock()
	w.present = present
	w.mu.Unlock()
	to := w.o.To()
	if to == "" {
		return nil
	}
	now := w.o.Now()
	due, last := len(present) == 0 && len(w.told) > 0, time.Time{} // all is over, or
	for _, t := range present {
		was, known := w.told[t.Key]
		due = due || !known || now.Sub(was.At) >= tellEvery
	}
	for _, t := range w.told {
		if t.At.After(last) && !t.At.After(now) { // the clock may have been set back
			last = t.At
		}
	}
	if !due || now.Sub(last) < mailEvery {
		return nil
	}
	after := make(map[string]told, len(present))
	for _, t := range present {
		after[t.Key] = told{At: now, What: t.What}
	}
	value, err := cbor.Marshal(after)
	if err != nil {
		return err
	}
	id, err := w.o.Queue(to, w.mail(to, present, now), func(b *store.Batch) { b.Set(key(), value) })
	if err != nil {
		return err
	}
	w.o.Logger.Info("the operator is told of trouble", "queue_id", id, "to", to, "troubles", len(present))
	w.told = after
	return nil
}

// mail is what the operator gets.
func (w *Watch) mail(to string, present []Trouble, now time.Time) []byte {
	var fresh, still []Trouble
	over := maps.Clone(w.told)
	for _, t := range present {
		if _, known := over[t.Key]; known {
			still = append(still, t)
		} else {
			fresh = append(fresh, t)
		}
		delete(over, t.Key)
	}
	var text strings.Builder
	section := func(title string, list []Trouble) {
		if len(list) == 0 {
			return
		}
		text.WriteString(title + ":\r\n\r\n")
		for _, t := range list {
			text.WriteString("* " + oneLine(t.What) + "\r\n")
			if t.Helps != "" {
				text.WriteString("  What helps: " + oneLine(t.Helps) + "\r\n")
			}
			text.WriteString("\r\n")
		}
	}
	section("New", fresh)
	section("Still so", still)
	var ended []Trouble
	for _, k := range slices.Sorted(maps.Keys(over)) {
		ended = append(ended, Trouble{What: over[k].What})
	}
	section("Over since the last mail", ended)
	text.WriteString("stsrelay status, stsrelay queue summary and stsrelay check DOMAIN say more. The relay writes at most once an hour, and of the same\r\ntrouble once a day; notices.operator in its configuration says to whom.\r\n")

	m := compose.Message{
		From: "Mail relay <MAILER-DAEMON@" + w.o.Hostname + ">", To: to, Subject: w.subject(fresh, still), Date: now, ID: fmt.Sprintf("trouble.%d@%s", now.UnixNano(), w.o.Hostname),
		AutoSubmitted: "auto-generated",
		Parts:         []compose.Part{{Type: compose.Text, Encoding: compose.QuotedPrintable, Content: []byte(text.String())}},
	}
	return m.Bytes()
}

func (w *Watch) subject(fresh, still []Trouble) string {
	if len(fresh)+len(still) == 0 {
		return w.o.Hostname + ": all is well again"
	}
	if n := len(fresh); n == 1 {
		return w.o.Hostname + ": " + human.Shorten(oneLine(fresh[0].What), 100)
	} else if n > 1 {
		return fmt.Sprintf("%s: %d new troubles", w.o.Hostname, n)
	}
	if len(still) == 1 {
		return w.o.Hostname + ": still: " + human.Shorten(oneLine(still[0].What), 100)
	}
	return fmt.Sprintf("%s: %d troubles are still there", w.o.Hostname, len(still))
}

// oneLine keeps what strangers have written from beginning a line of its own.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
