package publisher

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/sts/publish"
)

const (
	// watchEvery is how often each domain is looked at.
	watchEvery = time.Hour
	// firstWatch is the wait after the start.
	firstWatch = time.Minute
	// looksAtOnce is how many domains are looked at side by side.
	looksAtOnce = 8
)

// View is from where a domain is looked at.
type View struct {
	Ask *dnsclient.Client
	// Host is the name that policy hosts lead to, and Addresses those of the
	// configuration.
	Host      string
	Addresses []netip.Addr
	// Proxy reports whether a proxy answers for the policy hosts.
	Proxy bool
	// Certificate returns what there is to know of a policy host's certificate; nil: that
	// is not the relay's matter, or it is not known.
	Certificate func(host string) Certificate
	// Fetch fetches the policy as a sender would, and returns its text; nil: it is not
	// fetched.
	Fetch func(ctx context.Context, domain string) (text string, err error)
	Now   func() time.Time
}

// Judge looks at what the world sees of a domain, and returns what is not as it should be.
func (v *View) Judge(ctx context.Context, s Served) []publish.Finding {
	host, err := LookHost(ctx, v.Ask, v.Host, v.Addresses)
	state := publish.State{Domain: s.Domain, Host: host, Seen: Look(ctx, v.Ask, s.Domain.Name), KeptUntil: s.Binds, AnyAddress: v.Proxy}
	if err != nil && state.Seen.AddressError == nil {
		state.Seen.AddressError = phrase.Errorf("that of %s: %w", v.Host, err)
	}
	out := publish.Judge(state)
	leads := !slices.ContainsFunc(out, func(f publish.Finding) bool { return f.Code == "address" || f.Code == "address-unknown" })
	certificate, usable := v.judgeCertificate(s.Domain.Name)
	if leads || !v.lacksCertificate(s.Domain.Name) {
		out = append(out, certificate...) // else the address is why there is none, and that is said
	}
	if v.Fetch != nil && usable && leads {
		out = append(out, v.judgeFetch(ctx, s)...)
	}
	publish.Sort(out)
	return out
}

// lacksCertificate reports whether there is no certificate of a policy host.
func (v *View) lacksCertificate(domain string) bool {
	return v.Certificate != nil && v.Certificate(publish.PolicyHost(domain)).NotAfter.IsZero()
}

// judgeCertificate looks at the certificate of a policy host. usable reports whether
// senders can believe it.
func (v *View) judgeCertificate(domain string) (out []publish.Finding, usable bool) {
	if v.Certificate == nil {
		return nil, true
	}
	name := publish.PolicyHost(domain)
	c, now := v.Certificate(name), v.Now()
	next := phrase.Quote("")
	if !c.Next.IsZero() {
		at := c.Next.UTC().Format("2006-01-02 15:04") + " UTC"
		next = phrase.New(": tried again %s; stsrelay publish renew %s tries at once", at, domain)
	}
	ends := c.NotAfter.UTC().Format(time.DateTime)
	switch {
	case c.NotAfter.IsZero() && c.Problem == "":
		return []publish.Finding{{Code: "certificate", Grade: publish.Waiting, Text: phrase.New("%s: the certificate waits its turn%s", name, next)}}, false
	case c.NotAfter.IsZero():
		return []publish.Finding{{Code: "certificate", Grade: publish.Fault, Text: phrase.New("%s has no certificate: %s%s", name, c.Problem, next)}}, false
	case !now.Before(c.NotAfter):
		return []publish.Finding{{Code: "certificate", Grade: publish.Fault, Text: phrase.New("%s: its certificate ended on %s UTC: no sender reads the policy: %s%s", name, ends, c.Problem, next)}}, false
	case c.NotAfter.Sub(now) < c.NotAfter.Sub(c.NotBefore)/4:
		return []publish.Finding{{Code: "certificate-ends", Grade: publish.Fault, Text: phrase.New("%s: its certificate ends on %s UTC and is not renewed: %s%s", name, ends, c.Problem, next)}}, true
	}
	return nil, true
}

// judgeFetch fetches the policy over the public name.
func (v *View) judgeFetch(ctx context.Context, s Served) []publish.Finding {
	text, err := v.Fetch(ctx, s.Domain.Name)
	switch {
	case err != nil:
		return []publish.Finding{{Code: "fetch", Grade: publish.Fault, Text: phrase.New("%s: the policy cannot be fetched from here over its public name: %v; look at the firewall, and at what is before the relay", s.Domain.Name, err)}}
	case text != s.Text:
		return []publish.Finding{{Code: "fetch", Grade: publish.Fault, Text: phrase.New("%s: another policy is fetched over its public name, id %s, than is served here, %s: something before the relay keeps an old one", s.Domain.Name, publish.ID(text), s.ID)}}
	}
	return nil
}

// Watch looks at all domains once an hour.
type Watch struct {
	// Publisher and View are required. View is asked before each round.
	Publisher *Publisher
	View      func() *View
	// After is the clock; nil: time.After.
	After func(time.Duration) <-chan time.Time
	// Done is called after each round; nil: nobody is told.
	Done func(ctx context.Context)

	mu    sync.Mutex
	found map[string][]Since
}

// Since is a finding, and since when it is so.
type Since struct {
	publish.Finding
	At time.Time
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	after := w.After
	if after == nil {
		after = time.After
	}
	for wait := firstWatch; ; wait = watchEvery {
		select {
		case <-ctx.Done():
			return
		case <-after(wait):
			w.round(ctx)
			if w.Done != nil {
				w.Done(ctx)
			}
		}
	}
}

// round looks at every domain once.
func (w *Watch) round(ctx context.Context) {
	view, places := w.View(), make(chan struct{}, looksAtOnce)
	served := w.Publisher.Served()
	next := make([][]publish.Finding, len(served))
	var all sync.WaitGroup
	for i, s := range served {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if !s.Leaving {
				next[i] = view.Judge(ctx, s)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	found := make(map[string][]Since, len(served))
	for i, s := range served {
		found[s.Domain.Name] = since(w.found[s.Domain.Name], next[i], view.Now())
	}
	w.found = found
}

// since keeps the time of what was so before.
func since(before []Since, found []publish.Finding, now time.Time) []Since {
	out := make([]Since, len(found))
	for i, f := range found {
		out[i] = Since{f, now}
		for _, b := range before {
			if b.Code == f.Code {
				out[i].At = b.At
			}
		}
	}
	return out
}

// Faults returns the faults that are there for as long as a time, by domain.
func (w *Watch) Faults(least time.Duration, now time.Time) map[string][]Since {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string][]Since)
	for domain, list := range w.found {
		for _, f := range list {
			if f.Grade == publish.Fault && now.Sub(f.At) >= least {
				out[domain] = append(out[domain], f)
			}
		}
	}
	return out
}

// Fine reports whether a domain was looked at, and nothing is at fault or still to be done.
func (w *Watch) Fine(domain string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	found, looked := w.found[domain]
	return looked && !slices.ContainsFunc(found, func(f Since) bool { return f.Grade != publish.Advice })
}

// States counts the domains: "ok", "waiting" or "fault" by the worst that was found.
func (w *Watch) States() map[string]float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]float64{"ok": 0, "waiting": 0, "fault": 0}
	for _, list := range w.found {
		state := "ok"
		for _, f := range list {
			if f.Grade == publish.Fault {
				state = "fault"
			} else if f.Grade == publish.Waiting && state == "ok" {
				state = "waiting"
			}
		}
		out[state]++
	}
	return out
}
