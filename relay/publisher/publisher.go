// Package publisher serves the MTA-STS policies of the operator's own domains (RFC 8461,
// 3.3), remembers until when senders may hold what was served, and looks at what the world
// sees of each domain.
//
// What a policy says and which records belong to it is decided in sts/publish. Where the
// certificates come from is not its concern: it asks a function.
package publisher

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// Options configures New. Store is required.
type Options struct {
	Store store.Store
	// Host is the name under which other handlers than that of policies answer; "": under
	// none.
	Host string
	// Challenge answers a request of a certificate authority and reports whether it was
	// one; nil: there are none.
	Challenge func(http.ResponseWriter, *http.Request) bool
	// Counted is told of each answer: "policy", "challenge" or "not-found"; nil: nobody is.
	Counted func(result string)
	Now     func() time.Time
	Logger  *slog.Logger
}

// Publisher knows what is served. Its methods may be called from many goroutines.
type Publisher struct {
	o Options

	// served is what answers are made of: it is replaced as a whole, never changed.
	served atomic.Pointer[map[string]*entry] // by policy host

	// changing serializes Set, expire and the writes of the store.
	changing sync.Mutex
	domains  []publish.Domain
	mounted  http.ServeMux // of Host
	handlers bool          // whether mounted has any
}

// entry is a domain that is served.
type entry struct {
	domain publish.Domain
	text   []byte
	id     string
	// leaving is true where the configuration does not have the domain any more.
	leaving bool

	mu    sync.Mutex
	state state
	dirty bool // state has changed since it was written
	// near counts the requests for something near the path, and misspelt is the last one.
	near     int
	misspelt string
}

// New reads what was served before. Set must follow, also where nothing is published: what
// has left the configuration may still bind.
func New(o Options) *Publisher {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Counted == nil {
		o.Counted = func(string) {}
	}
	p := &Publisher{o: o}
	p.served.Store(&map[string]*entry{})
	return p
}

// Set puts the policies of domains into force, and serves on with mode none what is not
// among them any more and may still be held by senders. It returns when that is durable:
// what is served once is remembered before anybody can fetch it.
func (p *Publisher) Set(ctx context.Context, domains []publish.Domain) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	now := p.o.Now()
	stored, err := p.load()
	if err != nil {
		return err
	}
	next := make(map[string]*entry, len(domains))
	var b store.Batch
	for _, d := range domains {
		e := p.entryOf(d, stored[d.Name], now)
		next[publish.PolicyHost(d.Name)] = e
		e.write(&b)
		delete(stored, d.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if e := p.leavingEntry(name, stored[name], now); e != nil {
			next[publish.PolicyHost(name)] = e
			e.write(&b)
		} else {
			b.Delete(key(name))
		}
	}
	if err := store.Commit(ctx, p.o.Store, &b); err != nil {
		return fmt.Errorf("remember the published policies: %w", err)
	}
	p.domains = slices.Clone(domains)
	p.served.Store(&next)
	return nil
}

// entryOf is the entry of a domain of the configuration.
func (p *Publisher) entryOf(d publish.Domain, s state, now time.Time) *entry {
	text := publish.Text(d.Policy)
	if s.Text != text {
		s.replaced(now)
		if s.Text != "" {
			p.o.Logger.Info("the published policy has changed: set the id in its record", "domain", d.Name, "mode", d.Policy.Mode, "id", publish.ID(text))
		}
		s.Text, s.Since = text, now
	}
	s.Mode, s.MaxAge, s.Left = string(d.Policy.Mode), d.Policy.MaxAge, time.Time{}
	return p.keepCounts(&entry{domain: d, text: []byte(text), id: publish.ID(text), state: s})
}

// leavingEntry is the entry of a domain that the configuration does not have any more, nil
// where nobody can hold a policy of it.
func (p *Publisher) leavingEntry(name string, s state, now time.Time) *entry {
	d := publish.Domain{Name: name, Policy: publish.Withdrawn()}
	text := publish.Text(d.Policy)
	if s.Left.IsZero() {
		s.replaced(now)
		s.Text, s.Since, s.Left = text, now, now
		s.Mode, s.MaxAge = string(d.Policy.Mode), d.Policy.MaxAge
		if now.Before(s.Binds) {
			p.o.Logger.Warn("a domain has left the configuration, and senders may still hold its policy: mode none is served until then", "domain", name, "until", s.Binds)
		}
	}
	if !now.Before(s.Binds) {
		return nil
	}
	return p.keepCounts(&entry{domain: d, text: []byte(text), id: publish.ID(text), leaving: true, state: s})
}

// keepCounts takes over what is not stored.
func (p *Publisher) keepCounts(e *entry) *entry {
	if old := (*p.served.Load())[publish.PolicyHost(e.domain.Name)]; old != nil {
		old.mu.Lock()
		defer old.mu.Unlock()
		e.near, e.misspelt = old.near, old.misspelt
	}
	return e
}

// Hosts returns the policy hosts that are served, those of domains that leave too, in
// order. Each needs a certificate.
func (p *Publisher) Hosts() []string { return slices.Sorted(maps.Keys(*p.served.Load())) }

// Handle answers requests for a path at Host with h, beside the policies. It must be
// called before Serve.
func (p *Publisher) Handle(pattern string, h http.Handler) {
	p.mounted.Handle(pattern, h)
	p.handlers = true
}

// HasHandlers reports whether anything but policies is answered, at Host.
func (p *Publisher) HasHandlers() bool { return p.handlers }

// Run writes what has changed once a minute, and ends the domains that have left, until
// ctx ends; it returns when all is written.
func (p *Publisher) Run(ctx context.Context) {
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			p.flush(context.WithoutCancel(ctx))
			return
		case <-t.C:
			p.flush(ctx)
			p.expire(ctx)
		}
	}
}

// expire ends the domains that have left and bind nobody any more.
func (p *Publisher) expire(ctx context.Context) {
	p.changing.Lock()
	domains := p.domains
	over := false
	for _, e := range *p.served.Load() {
		over = over || e.leaving && !p.o.Now().Before(e.snapshot().Binds)
	}
	p.changing.Unlock()
	if !over {
		return
	}
	if err := p.Set(ctx, domains); err != nil {
		p.o.Logger.Error("the domains that have left cannot be ended", "error", err)
	}
}

// Served is a domain that is served.
type Served struct {
	Domain publish.Domain
	Text   string
	ID     string
	// Since is when this text was served first.
	Since time.Time
	// Binds is until when senders may hold another text that was served before; zero:
	// there was none.
	Binds time.Time
	// Leaving reports whether the configuration does not have the domain any more.
	Leaving bool
	// LastFetch is when the policy was fetched last, and FetchesToday how often since
	// midnight UTC.
	LastFetch    time.Time
	FetchesToday int
	// Near counts the requests since the start for something near the path, and Misspelt
	// is the last such path.
	Near     int
	Misspelt string
}

// Served returns what is served, by domain.
func (p *Publisher) Served() (out []Served) {
	for _, host := range p.Hosts() {
		if e := (*p.served.Load())[host]; e != nil {
			out = append(out, e.served(p.o.Now()))
		}
	}
	return out
}

func (e *entry) served(now time.Time) Served {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Served{
		Domain: e.domain, Text: string(e.text), ID: e.id, Since: e.state.Since, Binds: e.state.Binds, Leaving: e.leaving,
		LastFetch: e.state.LastFetch, Near: e.near, Misspelt: e.misspelt,
	}
	if e.state.Day == day(now) {
		s.FetchesToday = e.state.Fetches
	}
	return s
}

func (e *entry) snapshot() state {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// binding reports whether a policy can keep mail from a host while it is held.
func binding(mode string) bool { return mode != string(sts.ModeNone) }
