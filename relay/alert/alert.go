// Package alert tells the operator by mail and by a webhook what needs a person: mail that
// waits for another party to mend something, a disk that runs full, a certificate that
// expires, and that nothing is delivered at all. It checks every minute, tells at most once
// an hour but for what stops all mail, and remembers over restarts what it has told.
package alert

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	checkEvery = time.Minute
	// freshFor is how long a result counts where the status is asked for, lookFor how long
	// a look may take then.
	freshFor = 5 * time.Second
	lookFor  = 2 * time.Second
	// mailEvery is the least time between two mails, tellEvery between two mails
	// that have the same alert.
	mailEvery = time.Hour
	tellEvery = 24 * time.Hour
)

// NotAccepting is the key of the alert that no mail is taken in.
const NotAccepting = "accepting"

// ResolverSilent is the key of the alert that no resolver answers.
const ResolverSilent = "resolver"

// Alert is something that is wrong and needs a person.
type Alert struct {
	// Key names the alert from one check to the next.
	Key string `json:"key"`
	// What says in a sentence what is wrong.
	What string `json:"what"`
	// Remedy says what the operator can do, "" where nothing is known to help.
	Remedy string `json:"helps"`

	german text
	urgent bool // it stops all mail, and is told at once
}

// In returns the alert with its sentences in a language, as it is where it has none.
func (a Alert) In(language string) Alert {
	if language == "de" && a.german.what != "" {
		a.What, a.Remedy = a.german.what, a.german.helps
	}
	return a
}

// Options configures New. All but Language, Webhook, Logger, Now and After are required.
type Options struct {
	Hostname string
	// To returns the address of the operator, "" for nobody.
	To func() string
	// Language returns the language in which the operator is told, "en" or "de"; nil:
	// English.
	Language func() string
	// Webhook returns what posts a body of JSON to the operator's web server, nil while none
	// is configured; nil: there is none. An error is tried again.
	Webhook func() func(ctx context.Context, body []byte) error
	// Check returns all that is wrong now. Slow ones of its checks are made where thorough is
	// set, else their last result is returned.
	Check func(ctx context.Context, thorough bool) []Alert
	// Queue puts a mail into the queue, in one commit with what also adds. It
	// returns the queue ID.
	Queue func(to string, body []byte, also func(*store.Batch)) (id string, err error)
	Store store.Store
	// Now and After are the clock; nil: time.Now and time.After.
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Logger *slog.Logger
}

// Monitor checks for alerts and mails them.
type Monitor struct {
	o Options
	// told has, by key, the alerts of the last mails.
	told map[string]told
	hook hook
	// posted is what the webhook was told of that could not be recorded, "" for nothing.
	posted string

	looking sync.Mutex // held by who looks
	mu      sync.Mutex
	present []Alert
	looked  time.Time // when present was found
}

// told is what the operator was told of an alert last, and when.
type told struct {
	At   time.Time `cbor:"1,keyasint"`
	What string    `cbor:"2,keyasint"`
}

// New returns a Monitor that knows what was told before a restart.
func New(o Options) (*Monitor, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Monitor{o: o, told: make(map[string]told)}
	m.hook = hook{after: o.After, log: o.Logger, notes: make(chan note, maxNotes)}
	value, err := store.Get(o.Store, key())
	if err == nil && value != nil {
		err = cbor.Unmarshal(value, &m.told)
	}
	if err != nil {
		return nil, fmt.Errorf("what the operator was told: %w", err)
	}
	return m, nil
}

func key() []byte { return slices.Concat(store.PrefixOperator, []byte("told")) }

// Run checks until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	var posting sync.WaitGroup
	defer posting.Wait()
	posting.Go(func() { m.hook.run(ctx) })
	for {
		if err := m.check(ctx); err != nil && ctx.Err() == nil {
			m.o.Logger.Error("the operator could not be told of trouble; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.o.After(checkEvery):
		}
	}
}

// Present returns the alerts of now: it looks, for two seconds at most, where the last look
// is older than some seconds.
func (m *Monitor) Present(ctx context.Context) []Alert {
	if present, fresh := m.last(); fresh || !m.looking.TryLock() {
		return present
	}
	defer m.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	return m.look(ctx, false)
}

// Has reports whether the alert with a key was there at the last look.
func (m *Monitor) Has(key string) bool {
	present, _ := m.last()
	return slices.ContainsFunc(present, func(a Alert) bool { return a.Key == key })
}

func (m *Monitor) last() (present []Alert, fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.present, !m.looked.IsZero() && time.Since(m.looked) < freshFor
}

// look checks once. The caller holds looking.
func (m *Monitor) look(ctx context.Context, thorough bool) []Alert {
	present := m.o.Check(ctx, thorough)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.present, m.looked = present, time.Now()
	return present
}

// check checks once, and tells the operator if there is something to tell.
func (m *Monitor) check(ctx context.Context) error {
	m.looking.Lock()
	present := m.look(ctx, true)
	m.looking.Unlock()
	to, post := m.o.To(), m.webhook()
	now := m.o.Now()
	if to == "" && post == nil || !m.due(present, now) {
		return nil
	}
	l := m.letter(present, now)
	after := make(map[string]told, len(present))
	for i := range present {
		after[present[i].Key] = told{At: now, What: present[i].In(l.language).What}
	}
	value, err := cbor.Marshal(after)
	if err != nil {
		return err
	}
	err = m.record(ctx, to, l, func(b *store.Batch) { b.Set(key(), value) })
	if post != nil {
		m.post(post, l, err == nil)
	}
	if err == nil {
		m.told = after
	}
	return err
}

// record puts the mail into the queue, if there is somebody to write to, and what also adds
// into the store.
func (m *Monitor) record(ctx context.Context, to string, l *letter, also func(*store.Batch)) error {
	if to == "" {
		var b store.Batch
		also(&b)
		return store.Commit(ctx, m.o.Store, &b)
	}
	id, err := m.o.Queue(to, l.mail(m.o.Hostname, to), also)
	if err == nil {
		m.o.Logger.Info("the operator is told of trouble", "queue_id", id, "to", to, "troubles", len(l.fresh)+len(l.still))
	}
	return err
}

// post hands a letter to the webhook. Where it could not be recorded, since the disk is full
// for one, the same comes again a minute later: it is posted once.
func (m *Monitor) post(post func(ctx context.Context, body []byte) error, l *letter, recorded bool) {
	about := l.about()
	if m.posted != about {
		m.hook.tell(note{post, l.json(m.o.Hostname)})
	}
	m.posted = about
	if recorded {
		m.posted = ""
	}
}

func (m *Monitor) webhook() func(ctx context.Context, body []byte) error {
	if m.o.Webhook == nil {
		return nil
	}
	return m.o.Webhook()
}

// due reports whether the operator is told now.
func (m *Monitor) due(present []Alert, now time.Time) bool {
	due, urgent, last := len(present) == 0 && len(m.told) > 0, false, time.Time{} // all is over, or
	for _, t := range present {
		was, known := m.told[t.Key]
		due = due || !known || now.Sub(was.At).Abs() >= tellEvery // it may have been told while the clock was ahead
		urgent = urgent || t.urgent && !known
	}
	for _, t := range m.told {
		if t.At.After(last) && !t.At.After(now) { // the clock may have been set back
			last = t.At
		}
	}
	return urgent || due && now.Sub(last) >= mailEvery
}
