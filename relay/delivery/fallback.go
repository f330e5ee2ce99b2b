package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/sts"
)

const (
	// fallbackMemory is for how long mail goes by the fallback route without a try of the
	// domain's own hosts, after those have failed: each try may take minutes.
	fallbackMemory = 10 * time.Minute
	// maxFallbacks bounds the domains that are remembered.
	maxFallbacks = 10_000
)

// fallbacks are the destinations whose hosts failed lately, where the fallback route took
// the mail.
type fallbacks struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// took takes note that the fallback route took mail.
func (b *fallbacks) took(key string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until == nil || len(b.until) >= maxFallbacks {
		b.until = make(map[string]time.Time) // their hosts are tried once more
	}
	b.until[key] = now.Add(fallbackMemory)
}

// forget lets the hosts be tried again.
func (b *fallbacks) forget(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.until, key)
}

// lately reports whether the fallback route took mail a short time ago.
func (b *fallbacks) lately(key string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.until[key].Sub(now)
	return left > 0 && left <= fallbackMemory // or the clock was set
}

// ways tries the hosts of the domain, and where none of them can be used the operator's
// fallback route. The failure is that of policyAndHosts.
func (a *attempt) ways(ctx context.Context) *attemptError {
	f := a.policyAndHosts(ctx)
	second, ok := a.to.Fallback()
	if !ok || len(a.recipients.open) == 0 || a.end.reached || a.busy > 0 || ctx.Err() != nil {
		return f
	}
	if f == nil {
		f = a.reason()
	}
	if why := a.keepsFromFallback(ctx, f); why != "" {
		f.text += "; the fallback route is not taken, since " + why
		return f
	}
	a.d.log.InfoContext(ctx, "no host of the domain can be used; the mail goes by the fallback route",
		"queue_id", a.claim.Envelope.ID.String(), "domain", a.claim.Domain, "route", second.Route().Host, "error", f.Error())
	return a.fallBack(ctx, second, f)
}

// fallBack tries the second way, after the first one has failed with f.
func (a *attempt) fallBack(ctx context.Context, second outbound.Destination, f *attemptError) *attemptError {
	key := a.to.Key()
	a.to, a.policy, a.walk = second, sts.Result{}, nil
	g := a.policyAndHosts(ctx)
	if slices.ContainsFunc(a.recipients.states, func(s queue.RecipientState) bool { return s.State == queue.Delivered }) {
		a.d.fallbacks.took(key, a.d.now())
	} else {
		a.d.fallbacks.forget(key)
	}
	if a.end.reached {
		return g
	}
	if g == nil && len(a.recipients.open) > 0 {
		g = a.reason()
	}
	if g != nil {
		// The domain is not at fault, so the message is not given up before its time.
		g.permanent = false
		g.text = fmt.Sprintf("%s; and the fallback route: %s", strings.TrimSuffix(f.text, "."), g.text)
	}
	return g
}

// passedOver returns the failure of hosts that are not tried, because the fallback route
// took mail instead of them a short time ago; nil where they are tried.
func (a *attempt) passedOver(ctx context.Context) *attemptError {
	if _, ok := a.to.Fallback(); !ok || !a.d.fallbacks.lately(a.to.Key(), a.d.now()) {
		return nil
	}
	if a.binds(ctx) != "" {
		return nil // it does not go by that route
	}
	return &attemptError{reason: failure.Connect, text: "no host of " + a.claim.Domain + " could be used a short time ago", domainWide: true}
}

// keepsFromFallback says why mail does not go by the fallback route after the domain's
// own hosts have failed with f; "" where it goes.
func (a *attempt) keepsFromFallback(ctx context.Context, f *attemptError) string {
	switch {
	case f.permanent:
		return "it could not help"
	case f.policy:
		return "what is asked of the domain's own hosts is not met, which no other way mends"
	case f.reason == failure.NoHost:
		return "the domain has no mail host"
	case f.reason == failure.DNS:
		return a.unlessAll("where the mail goes, and under which policy, cannot be told")
	case a.walk != nil && !a.walk.Complete():
		return "some hosts have not had their turn"
	}
	return a.binds(ctx)
}

// binds says what binds the mail to the domain's own hosts, whoever keeps the relay from
// them; "" where nothing does.
func (a *attempt) binds(ctx context.Context) string {
	if a.overridden() {
		return ""
	}
	switch {
	case a.enforced():
		return a.unlessAll("the domain's MTA-STS policy is in mode enforce")
	case a.policy.Unknown:
		return a.unlessAll("it is not known whether the domain has an MTA-STS policy")
	}
	if why := a.daneBinds(ctx); why != "" {
		return a.unlessAll(why)
	}
	return ""
}

// unlessAll is why, but where the operator trusts the next hop with all mail.
func (a *attempt) unlessAll(why string) string {
	if a.to.Rule.Fallback == outbound.FallbackAll {
		return ""
	}
	return why + ` (fallback = "unbound")`
}

// daneBinds says which host has TLSA records (RFC 7672, 2.2); "" where none has. The DNS
// cache has the answers of hosts that were tried.
func (a *attempt) daneBinds(ctx context.Context) string {
	if !a.settings.DANE {
		return ""
	}
	for i, h := range a.plan.Hosts {
		if h.Addr.IsValid() {
			continue
		}
		if i >= outbound.MaxHosts {
			return "the domain has too many hosts to tell whether they have TLSA records"
		}
		addrs, err := a.d.finder.Lookup(ctx, h.Name, a.reach().Private)
		if _, none := errors.AsType[*outbound.NoAddress](err); none {
			continue // nor has it TLSA records that count
		}
		if err == nil {
			set, terr := a.d.finder.TLSA(ctx, h, addrs)
			if err = terr; set != nil {
				return h.Name + " has TLSA records"
			}
		}
		if err != nil {
			return fmt.Sprintf("it is not known whether %s has TLSA records (%v)", h.Name, err)
		}
	}
	return ""
}

// destination is where the recipients of a claim are, by the rules for its sender.
func destination(rules outbound.Rules, domain, from string) outbound.Destination {
	sender, err := mailbox.ParseDomain(from[strings.LastIndexByte(from, '@')+1:])
	if err != nil {
		sender = "" // the null sender has none
	}
	return rules.Destination(domain, sender)
}
