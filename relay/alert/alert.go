// Package alert tells the operator by mail what needs a person: mail that waits
// for another party to mend something, a disk that runs full, a certificate that
// expires. It checks every few minutes, writes at most one mail an hour, and
// remembers over restarts what it has told.
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
	checkEvery = 5 * time.Minute
	// mailEvery is the least time between two mails, tellEvery between two mails
	// that have the same alert.
	mailEvery = time.Hour
	tellEvery = 24 * time.Hour
)

// NotAccepting is the key of the alert that no mail is taken in.
const NotAccepting = "accepting"

// Alert is something that is wrong and needs a person.
type Alert struct {
	// Key names the alert from one check to the next.
	Key string `json:"key"`
	// What says in a sentence what is wrong.
	What string `json:"what"`
	// Remedy says what the operator can do, "" where nothing is known to help.
	Remedy string `json:"helps"`
}

// Options configures New. All but Logger, Now and After are required.
type Options struct {
	Hostname string
	// To returns the address of the operator, "" for nobody.
	To func() string
	// Check returns all that is wrong now.
	Check func(context.Context) []Alert
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

	mu      sync.Mutex
	present []Alert
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

// Present returns the alerts of the last check.
func (m *Monitor) Present() []Alert {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.present
}

// check checks once, and writes a mail if there is something to tell.
func (m *Monitor) check(ctx context.Context) error {
	present := m.o.Check(ctx)
	m.mu.Lock()
	m.present = present
	m.mu.Unlock()
	to := m.o.To()
	if to == "" {
		return nil
	}
	now := m.o.Now()
	due, last := len(present) == 0 && len(m.told) > 0, time.Time{} // all is over, or
	for _, t := range present {
		was, known := m.told[t.Key]
		due = due || !known || now.Sub(was.At) >= tellEvery
	}
	for _, t := range m.told {
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
	id, err := m.o.Queue(to, m.mail(to, present, now), func(b *store.Batch) { b.Set(key(), value) })
	if err != nil {
		return err
	}
	m.o.Logger.Info("the operator is told of trouble", "queue_id", id, "to", to, "troubles", len(present))
	m.told = after
	return nil
}

// mail returns the mail to the operator, header and body.
func (m *Monitor) mail(to string, present []Alert, now time.Time) []byte {
	var fresh, still []Alert
	over := maps.Clone(m.told)
	for _, t := range present {
		if _, known := over[t.Key]; known {
			still = append(still, t)
		} else {
			fresh = append(fresh, t)
		}
		delete(over, t.Key)
	}
	var text strings.Builder
	section := func(title string, list []Alert) {
		if len(list) == 0 {
			return
		}
		text.WriteString(title + ":\r\n\r\n")
		for _, t := range list {
			text.WriteString("* " + oneLine(t.What) + "\r\n")
			if t.Remedy != "" {
				text.WriteString("  What helps: " + oneLine(t.Remedy) + "\r\n")
			}
			text.WriteString("\r\n")
		}
	}
	section("New", fresh)
	section("Still so", still)
	var ended []Alert
	for _, k := range slices.Sorted(maps.Keys(over)) {
		ended = append(ended, Alert{What: over[k].What})
	}
	section("Over since the last mail", ended)
	text.WriteString("stsrelay status, stsrelay queue summary and stsrelay check DOMAIN say more. The relay writes at most once an hour, and of the same\r\ntrouble once a day; notices.operator in its configuration says to whom.\r\n")

	letter := compose.Message{
		From: "Mail relay <MAILER-DAEMON@" + m.o.Hostname + ">", To: to, Subject: m.subject(fresh, still), Date: now, ID: fmt.Sprintf("trouble.%d@%s", now.UnixNano(), m.o.Hostname),
		AutoSubmitted: "auto-generated",
		Parts:         []compose.Part{{Type: compose.Text, Encoding: compose.QuotedPrintable, Content: []byte(text.String())}},
	}
	return letter.Bytes()
}

func (m *Monitor) subject(fresh, still []Alert) string {
	if len(fresh)+len(still) == 0 {
		return m.o.Hostname + ": all is well again"
	}
	if n := len(fresh); n == 1 {
		return m.o.Hostname + ": " + human.Shorten(oneLine(fresh[0].What), 100)
	} else if n > 1 {
		return fmt.Sprintf("%s: %d new troubles", m.o.Hostname, n)
	}
	if len(still) == 1 {
		return m.o.Hostname + ": still: " + human.Shorten(oneLine(still[0].What), 100)
	}
	return fmt.Sprintf("%s: %d troubles are still there", m.o.Hostname, len(still))
}

// oneLine keeps what strangers have written from beginning a line of its own.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
