package delivery

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// countedKey is what the reader of these tests adds to the commit of a result.
var countedKey = []byte("test/counted")

// watchedStore tells of each batch whether it has results of the queue, and what the
// reader added.
type watchedStore struct {
	store.Store
	submitted func(results, counted bool)
}

func (s watchedStore) Submit(b *store.Batch, done func(error)) {
	results, counted := false, false
	for _, op := range b.Ops() {
		results = results || bytes.HasPrefix(op.Key, store.PrefixMessage)
		counted = counted || bytes.Equal(op.Key, countedKey)
	}
	s.submitted(results, counted)
	s.Store.Submit(b, done)
}

// readerWorld is a queue and a Delivery in the fake Internet, with one reader of each kind.
type readerWorld struct {
	*testnet.Net
	t       *testing.T
	queue   *queue.Queue
	options Options

	mu     sync.Mutex
	read   []string // how the readers were called: "commit delivered"
	events []*Event
	alone  int // batches in which the count was without a result
	with   int // batches in which it was with one
	told   chan struct{}
}

func newReaderWorld(t *testing.T) *readerWorld {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	st, err := badger.Open(badger.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w := &readerWorld{Net: n, t: t, told: make(chan struct{}, 100)}
	w.queue, err = queue.Open(queue.Options{Schedule: queue.Schedule{Retry: []time.Duration{time.Hour}}, Store: watchedStore{st, func(results, counted bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case counted && results:
			w.with++
		case counted:
			w.alone++
		}
	}}})
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := dnsclient.New(dnsclient.Options{Servers: []string{n.DNS.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.queue.Close()
		_ = resolver.Close()
		_ = st.Close()
	})
	note := func(what string, e *Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.read = append(w.read, strings.TrimSpace(what+" "+e.Verdict()))
	}
	w.options = Options{
		Queue: w.queue, Resolver: resolver, Hostname: "relay.example.com", Roots: n.CA.Roots(), Dial: n.DialContext,
		Settings: Settings{AllowPrivate: true},
		Readers: Readers{
			Commit: []func(*Event) Changes{func(e *Event) Changes {
				note("commit", e)
				return Changes{Batch: func(b *store.Batch) { b.Set(countedKey, []byte("1")) }}
			}},
			Ended: []func(*Event){func(e *Event) {
				w.mu.Lock()
				w.events = append(w.events, e)
				w.mu.Unlock()
				note("ended", e)
			}},
			Durable: []func(*Event){func(e *Event) {
				note("durable", e)
				w.told <- struct{}{}
			}},
		},
	}
	return w
}

// host adds a host that takes mail for domain.
func (w *readerWorld) host(domain string, f testnet.Faults) {
	w.t.Helper()
	h, err := w.AddHost("mx." + domain)
	if err == nil {
		err = w.AddDomain(domain, testnet.Domain{MX: []string{h.Name}})
	}
	if err == nil {
		err = h.Set(f)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// deliver queues a message to each list of recipients, one after the other when the
// attempt before is over, and stops the Delivery then.
func (w *readerWorld) deliver(messages ...string) {
	w.t.Helper()
	d := New(w.options)
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx, time.Second) }()
	defer func() { stop(); <-done }()
	for _, to := range messages {
		env := queue.Envelope{Kind: queue.Mail, From: "sender@example.com"}
		for _, address := range strings.Fields(to) {
			env.Recipients = append(env.Recipients, queue.Recipient{Address: address, Domain: address[strings.IndexByte(address, '@')+1:]})
		}
		if err := w.queue.Add([]queue.NewMessage{{Envelope: env, Body: []byte("Subject: hello\r\n\r\nhello\r\n")}}, nil); err != nil {
			w.t.Fatal(err)
		}
		select {
		case <-w.told:
		case <-time.After(30 * time.Second):
			w.t.Fatalf("no reader was told: %q", w.read)
		}
	}
}

// describe says in one line what an event tells of its sessions.
func describe(e *Event) string {
	var sessions []string
	for _, s := range e.Sessions {
		if s.Evidence == nil {
			sessions = append(sessions, "skipped "+s.Requirement.Host)
			continue
		}
		text := s.Evidence.StartTLS.String()
		for _, v := range []struct {
			holds bool
			word  string
		}{{s.Opened, "opened"}, {s.Usable, "usable"}, {s.Verdicts != nil, "counted"}} {
			if v.holds {
				text += " " + v.word
			}
		}
		sessions = append(sessions, text)
	}
	return strings.Join(sessions, ", ")
}

func TestReadersGetOneEventAnAttempt(t *testing.T) {
	for _, tt := range []struct {
		name     string
		faults   testnet.Faults
		messages []string
		change   func(*Options)
		verdicts string // one for each attempt
		sessions string // of the last one
	}{
		{"delivered", testnet.Faults{}, []string{"a@d.example"}, nil, "delivered", "established opened usable counted"},
		{"over a session that is open", testnet.Faults{}, []string{"a@d.example", "b@d.example"}, nil, "delivered delivered", "established usable"},
		{"over another session than the one that was open", testnet.Faults{SessionMessages: 1}, []string{"a@d.example", "b@d.example"}, nil, "delivered delivered", "established usable, established opened usable counted"},
		{"bounced", testnet.Faults{Recipients: map[string]string{"a@d.example": "550 5.1.1 nobody"}}, []string{"a@d.example"}, nil, "bounced", "established opened usable counted"},
		{"deferred", testnet.Faults{Replies: map[string]string{"dot": "451 4.3.0 later"}}, []string{"a@d.example"}, nil, "deferred", "established opened usable counted"},
		{"some of them", testnet.Faults{Recipients: map[string]string{"a@d.example": "550 5.1.1 nobody"}}, []string{"a@d.example b@d.example"}, nil, "mixed", "established opened usable counted"},
		{"two transactions", testnet.Faults{TransactionRecipients: 1}, []string{"a@d.example b@d.example c@d.example"}, nil, "delivered", "established opened usable counted"},
		{"no connection", testnet.Faults{Down: true}, []string{"a@d.example"}, nil, "deferred", ""},
		{"in clear, as the handshake broke", testnet.Faults{InjectAfter220: true}, []string{"a@d.example"}, nil, "delivered", "broken opened usable counted"},
		{"held", testnet.Faults{NoStartTLS: true}, []string{"a@d.example"}, func(o *Options) { o.Settings.RefusePlaintext = true }, "deferred", "not-offered opened counted"},
		{"the attempt panics", testnet.Faults{}, []string{"a@d.example"}, func(o *Options) {
			o.IsSelf = func(string, uint16, []netip.Addr) bool { panic("a fault of this relay") }
		}, "deferred", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newReaderWorld(t)
			w.host("d.example", tt.faults)
			if tt.change != nil {
				tt.change(&w.options)
			}
			w.deliver(tt.messages...)
			w.mu.Lock()
			defer w.mu.Unlock()
			var want []string
			for v := range strings.FieldsSeq(tt.verdicts) {
				want = append(want, "commit "+v, "ended "+v, "durable "+v)
			}
			if !slices.Equal(w.read, want) {
				t.Errorf("the readers were called so: %q, want %q", w.read, want)
			}
			if w.with != len(tt.messages) || w.alone != 0 {
				t.Errorf("%d batches had a count with its result, %d without", w.with, w.alone)
			}
			if got := describe(w.events[len(w.events)-1]); got != tt.sessions {
				t.Errorf("sessions %q, want %q", got, tt.sessions)
			}
		})
	}
}

func TestAnEventTellsWhatHappenedToEachRecipient(t *testing.T) {
	w := newReaderWorld(t)
	w.host("d.example", testnet.Faults{Recipients: map[string]string{"a@d.example": "550 5.1.1 nobody", "c@d.example": "550 5.1.1 nobody", "d@d.example": "451 4.2.0 later"}})
	w.deliver("a@d.example b@d.example c@d.example d@d.example")
	e := w.events[0]
	var got []string
	for _, r := range e.Results() {
		got = append(got, fmt.Sprintf("%s %s %s %s %q from %s", strings.Join(r.To, ","), r.Verdict, r.Status, r.Code, r.Reply, r.Host))
		if s := e.Session(r.Host); s == nil || s.RemoteIP != r.IP || s.Evidence.TLSName() != "TLS 1.3" {
			t.Errorf("session %+v", s)
		}
	}
	want := []string{
		`a@d.example,c@d.example bounced 5.1.1 rcpt "550 5.1.1 nobody" from mx.d.example`,
		`b@d.example delivered   "250 2.0.0 taken" from mx.d.example`,
		`d@d.example deferred 4.2.0 rcpt "451 4.2.0 later" from mx.d.example`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if e.Claim.Attempts != 0 || e.Took <= 0 || e.At.IsZero() || e.TLS == "" {
		t.Errorf("%+v", e)
	}
}

// A reader that panics costs the attempt its results, never the message, and the other
// mail goes on.
func TestAReaderThatPanicsEndsTheClaimAllTheSame(t *testing.T) {
	w := newReaderWorld(t)
	w.host("d.example", testnet.Faults{})
	w.host("e.example", testnet.Faults{})
	count := w.options.Readers.Commit[0]
	w.options.Readers.Commit[0] = func(e *Event) Changes {
		if e.Claim.Domain == "d.example" {
			panic("a fault of a reader")
		}
		return count(e)
	}
	add := func() queue.ID {
		m := []queue.NewMessage{{Envelope: queue.Envelope{Kind: queue.Mail, From: "sender@example.com", Recipients: []queue.Recipient{{Address: "a@d.example", Domain: "d.example"}}}, Body: []byte("\r\n")}}
		if err := w.queue.Add(m, nil); err != nil {
			t.Fatal(err)
		}
		return m[0].Envelope.ID
	}
	id := add()
	w.deliver("a@e.example")
	add() // its commit comes behind that of the result
	m, err := w.queue.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	if s := m.States[0]; s.State != queue.Queued || s.ReasonCode != failure.Internal.Code() || s.Attempts != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAClaimThatTheStopGivesBackIsOneEventWithoutResults(t *testing.T) {
	w := newReaderWorld(t)
	w.host("d.example", testnet.Faults{Hang: "mail"})
	m := []queue.NewMessage{{Envelope: queue.Envelope{Kind: queue.Mail, From: "sender@example.com", Recipients: []queue.Recipient{{Address: "a@d.example", Domain: "d.example"}}}, Body: []byte("\r\n")}}
	if err := w.queue.Add(m, nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	w.options.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		defer stop()
		return w.DialContext(ctx, network, address)
	}
	New(w.options).Run(ctx, time.Second)
	if want := []string{"commit", "ended"}; !slices.Equal(w.read, want) || w.events[0].Kind != EventNoAttempt {
		t.Errorf("the readers were called so: %q, want %q; %+v", w.read, want, w.events)
	}
	if m, err := w.queue.Show(m[0].Envelope.ID); err != nil || m.States[0].Attempts != 0 {
		t.Errorf("%+v, %v", m.States, err)
	}
}
