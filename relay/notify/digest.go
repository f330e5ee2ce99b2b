package notify

import (
	"bytes"
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
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
)

const (
	// maxNotices is the number of notices that one sender gets in a window. All
	// others of that window are in one message at its end, the digest: a program that
	// writes to a thousand dead addresses does not get a thousand notices.
	maxNotices = 20
	window     = time.Hour
	// maxKept bounds the notices that a digest lists; others are only counted.
	maxKept = 1000
	// maxSenders bounds the senders whose notices are counted.
	maxSenders = 10_000
)

// Digest limits the notices to each sender. A notice that it holds back is in the store,
// written in the same commit as the result that it is about.
type Digest struct {
	reporter *Reporter
	store    store.Store

	mu      sync.Mutex
	next    uint64 // number of the next summary
	senders map[string]*recipientWindow
}

// recipientWindow has the notices that one sender (their recipient) got, and those that
// are held back, since begun.
type recipientWindow struct {
	begun time.Time // start of the window
	sent  int
	kept  []summary
	more  int // notices that are only counted
}

// summary is a notice that is held back, as the digest lists it.
type summary struct {
	Sender     string    `cbor:"1,keyasint"`
	At         time.Time `cbor:"2,keyasint"`
	Action     Action    `cbor:"3,keyasint"`
	ID         string    `cbor:"4,keyasint"`
	Subject    string    `cbor:"5,keyasint"`
	Recipients []string  `cbor:"6,keyasint"`
	What       string    `cbor:"7,keyasint"`
	key        []byte
}

// maxListed bounds the recipients that a summary names.
const maxListed = 20

// NewDigest returns the limit on the notices of r, with the notices that were held back
// before the last stop.
func NewDigest(r *Reporter, s store.Store) (*Digest, error) {
	d := &Digest{reporter: r, store: s, senders: make(map[string]*recipientWindow)}
	err := s.Scan(store.PrefixNotice, nil, func(key, value []byte) error {
		var sum summary
		if err := cbor.Unmarshal(value, &sum); err != nil {
			return fmt.Errorf("a notice that was held back cannot be read: %w", err)
		}
		sum.key = bytes.Clone(key)
		var number uint64
		if _, err := fmt.Sscanf(string(key[len(store.PrefixNotice):]), "%x", &number); err == nil {
			d.next = max(d.next, number+1)
		}
		a := d.window(sum.Sender, sum.At)
		a.sent = maxNotices
		a.hold(sum)
		return nil
	})
	return d, err
}

// window returns the window of a sender, a new one where there is none.
func (d *Digest) window(sender string, now time.Time) *recipientWindow {
	a := d.senders[sender]
	if a == nil {
		a = &recipientWindow{begun: now}
		d.senders[sender] = a
	}
	return a
}

// hold adds a notice to the digest; listed reports whether it is listed and not only
// counted.
func (a *recipientWindow) hold(s summary) (listed bool) {
	if len(a.kept) >= maxKept {
		a.more++
		return false
	}
	a.kept = append(a.kept, s)
	return true
}

// Waits reports whether notices are held back.
func (d *Digest) Waits() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.senders {
		if len(a.kept) > 0 {
			return true
		}
	}
	return false
}

// limit holds a notice back for the digest where the sender has had too many.
func (d *Digest) limit(n *notice, m *queue.NewMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.senders) > maxSenders {
		maps.DeleteFunc(d.senders, func(_ string, a *recipientWindow) bool { return len(a.kept) == 0 && past(a.begun, n.now, window) })
	}
	a := d.window(n.env.From, n.now)
	if len(a.kept) == 0 && past(a.begun, n.now, window) {
		a.begun, a.sent = n.now, 0
	}
	if a.sent < maxNotices {
		a.sent++
		return
	}
	s := n.summary()
	s.key = fmt.Appendf(slices.Clone(store.PrefixNotice), "%016x", d.next)
	d.next++
	if !a.hold(s) {
		// Only a listed notice is removed from the store when the digest is sent. One
		// that is only counted would come again after each restart: it is not stored.
		m.Keep = func(*store.Batch) {}
		return
	}
	value, err := cbor.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("notify: %v", err)) // strings and times can always be encoded
	}
	m.Keep = func(b *store.Batch) { b.Set(s.key, value) }
}

func (n *notice) summary() summary {
	original, _ := n.original()
	p := n.page(original)
	s := summary{Sender: n.env.From, At: n.now, Action: n.action, ID: p.ID, Subject: p.Subject, What: p.Groups[0].What}
	for _, e := range n.entries[:min(len(n.entries), maxListed)] {
		s.Recipients = append(s.Recipients, e.recipient.Address)
	}
	if more := len(n.entries) - maxListed; more > 0 {
		s.Recipients = append(s.Recipients, fmt.Sprintf("… (%d)", more))
	}
	return s
}

// Run sends the digests that are due until ctx ends.
func (d *Digest) Run(ctx context.Context, q *queue.Queue, log *slog.Logger) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := d.send(q, log); err != nil {
				log.Error("a digest of notices could not be queued; it is tried again", "error", err)
			}
		}
	}
}

// Send queues the digests that are due.
func (d *Digest) Send(q *queue.Queue) error { return d.send(q, slog.New(slog.DiscardHandler)) }

func (d *Digest) send(q *queue.Queue, log *slog.Logger) error {
	now := d.reporter.now()
	d.mu.Lock()
	due := make(map[string]*recipientWindow)
	for sender, a := range d.senders {
		if len(a.kept) > 0 && past(a.begun, now, window) {
			due[sender] = a
			d.senders[sender] = &recipientWindow{begun: now, sent: 1}
		}
	}
	d.mu.Unlock()
	var failed error
	for sender, a := range due {
		messages := []queue.NewMessage{d.message(sender, a, now)}
		err := q.Add(messages, func(b *store.Batch) {
			for _, s := range a.kept {
				b.Delete(s.key)
			}
		})
		if err != nil {
			d.putBack(sender, a)
			failed = err
			continue
		}
		log.Info("digest of notices queued", "queue_id", messages[0].Envelope.ID.String(), "to", sender, "notices", len(a.kept)+a.more)
	}
	return failed
}

// putBack keeps a window whose digest could not be queued, with what came meanwhile.
func (d *Digest) putBack(sender string, a *recipientWindow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	meanwhile := d.window(sender, a.begun)
	a.kept, a.more = append(a.kept, meanwhile.kept...), a.more+meanwhile.more
	d.senders[sender] = a
}

// message is the mail of a digest.
func (d *Digest) message(address string, a *recipientWindow, now time.Time) queue.NewMessage {
	r := d.reporter
	t := r.texts()
	page := struct {
		Kept  []summary
		More  int
		Count int
	}{a.kept, a.more, len(a.kept) + a.more}
	m := compose.Message{
		From: sender(r.Hostname), To: address, Subject: render(t, "digest.subject", page), Date: now, ID: fmt.Sprintf("digest.%d@%s", now.UnixNano(), r.Hostname),
		AutoSubmitted: "auto-replied",
		Parts:         []compose.Part{{Type: compose.Text, Encoding: compose.QuotedPrintable, Content: wrapped(render(t, "digest.text", page))}},
	}
	to := address[strings.LastIndexByte(address, '@')+1:]
	if parsed, err := mailbox.Parse(address); err == nil {
		to = parsed.Domain
	}
	return queue.NewMessage{
		Envelope: queue.Envelope{
			Kind: queue.Notice, Recipients: []queue.Recipient{{Address: address, Domain: to, Notify: []string{"NEVER"}}},
			Client: r.Hostname + " (digest of notices)", SMTPUTF8: !isASCII([]byte(address)),
		},
		Body: m.Bytes(),
	}
}
