// Package delivery claims recipient groups from the queue and delivers them: it
// finds the hosts of the domain and what the domain requires, picks or opens a
// session, compares what the session proved with the requirement, sends, and
// gives every recipient its own result.
//
// The decision itself is made in package security; the wire is smtpclient's;
// when the next attempt is made is the queue's.
package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
	"github.com/stsrelay/stsrelay/relay/trace"
	"github.com/stsrelay/stsrelay/sts"
)

// Options configures New. Queue and Resolver are required.
type Options struct {
	Queue    *queue.Queue
	Resolver *dnsclient.Client
	// Policies answers which MTA-STS policy is in force; nil: MTA-STS is off.
	Policies *sts.Manager
	// Hostname is our name in EHLO.
	Hostname string
	// Roots are the trusted authorities of MX hosts; nil: the system's.
	Roots *x509.CertPool
	// Dial opens connections; nil: from Settings.SourceIPs. address is "IP:port".
	Dial outbound.DialFunc
	// IsSelf reports whether a host is this relay; nil: no host is.
	IsSelf func(host string, port uint16, addrs []netip.Addr) bool
	// Holds reports whether the queue is this relay's alone for certain. It is asked
	// before the end of each message goes out. nil: it always is.
	Holds func() bool
	// Readers read the events of attempts.
	Readers Readers
	// Hellos remembers hosts that answer a small ClientHello only; default: those
	// that this Delivery has met.
	Hellos *clienthello.Hosts
	// Trace is told what attempts say and hear; nil: nobody is.
	Trace *trace.Tracer
	// Settings are the values that may change while the relay runs.
	Settings Settings
	// Timeouts are those of the SMTP client; zero values are RFC 5321's.
	Timeouts smtpclient.Timeouts
	// Now is the wall clock; default time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Settings may be replaced while the relay runs.
type Settings struct {
	// Concurrency bounds the claims that are worked on at a time. Default 500.
	Concurrency int
	// PerHost bounds the sessions to one host; 0: DefaultPerHost, and up to
	// MostPerHost to a host far away that takes more mail over more sessions.
	PerHost int
	// RefusePlaintext keeps mail from leaving without TLS, whatever a domain
	// publishes.
	RefusePlaintext bool
	// AllowPrivate permits MX hosts on private, loopback and link-local addresses.
	AllowPrivate bool
	// ConnectTimeout bounds one connection attempt. Default 30s.
	ConnectTimeout time.Duration
	// DelayNotice is the age at which the sender is notified of a delay; 0: never.
	DelayNotice time.Duration
	// LegacyTLS speaks TLS 1.0 and 1.1 where nobody asks for more.
	LegacyTLS bool
	// Family restricts the addresses that are contacted; default
	// outbound.AnyFamily.
	Family outbound.IPFamily
	// SourceIPs are the addresses that connections come from, at most one of each
	// family; none: the system's choice.
	SourceIPs []netip.Addr
	// DANE looks TLSA records up.
	DANE bool
	// Rules are the operator's rules for domains.
	Rules outbound.Rules
	// Resign signs a message that is encoded anew for a host, where this relay has
	// signed it before; nil: it keeps its signatures. open opens the message.
	Resign func(open func() io.Reader) (io.Reader, error)
}

// Delivery delivers the mail that is due in the queue.
type Delivery struct {
	queue    *queue.Queue
	policies *sts.Manager
	readers  Readers
	holds    func() bool // nil: always
	trace    *trace.Tracer
	now      func() time.Time
	log      *slog.Logger

	settings        atomic.Pointer[Settings]
	pool            *pool
	finder          outbound.Finder
	opener          outbound.Opener
	unknownPolicies unknownPolicies
	homeless        homeless
	fallbacks       fallbacks
	rotation        outbound.Rotation
	places          places
	active          atomic.Int64
	freed           chan struct{} // capacity 1: there may be room for another attempt
}

// New returns a Delivery that does nothing until Run.
func New(o Options) *Delivery {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Delivery{
		queue: o.Queue, policies: o.Policies, readers: o.Readers, holds: o.Holds, trace: o.Trace,
		now: o.Now, log: o.Logger,
		pool:  newPool(),
		freed: make(chan struct{}, 1),
	}
	if o.Hellos == nil {
		o.Hellos = clienthello.NewHosts(d.now)
	}
	if o.Dial == nil {
		o.Dial = outbound.DialFrom(func() []netip.Addr { return d.settings.Load().SourceIPs })
	}
	d.finder = outbound.Finder{Resolver: o.Resolver, Hostname: o.Hostname, IsSelf: o.IsSelf}
	d.opener = outbound.Opener{
		Dialer: outbound.NewDialer(o.Dial, d.now), Hostname: o.Hostname, Roots: o.Roots, Hellos: o.Hellos,
		Cache: tls.NewLRUClientSessionCache(4096), Timeouts: o.Timeouts, Now: d.now,
	}
	d.Set(o.Settings)
	return d
}

// Set replaces the settings; attempts under way keep the old ones.
func (d *Delivery) Set(s Settings) {
	if s.Concurrency == 0 {
		s.Concurrency = 500
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = 30 * time.Second
	}
	d.settings.Store(&s)
	d.free()
}

// Sessions is the number of SMTP sessions that are open.
func (d *Delivery) Sessions() int { return d.pool.size() }

// Run delivers until ctx ends. Then it claims nothing more, gives back to the
// queue what has sent no content, lets content that is on its way arrive and be
// answered for up to grace, and closes all sessions.
func (d *Delivery) Run(ctx context.Context, grace time.Duration) {
	// Attempts end with a cause that tells a stop from all else.
	attempting, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	sending, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() {
		stop(errStopping)
		d.pool.stop()
	})()
	var attempts, janitor sync.WaitGroup
	janitor.Go(func() { d.tend(ctx) })

	deliver := func(claim *queue.Claim) {
		for claim != nil {
			if claim.Load() {
				d.deliverSafely(attempting, sending, claim)
			}
			if ctx.Err() != nil {
				return
			}
			claim = d.queue.ClaimFor(claim.Domain)
		}
	}
	claims := make(chan *queue.Claim)
	for d.waitForSlot(ctx) {
		claim, err := d.queue.Claim(ctx)
		if err != nil {
			break
		}
		d.active.Add(1)
		select {
		case claims <- claim: // a worker waits for it
		default:
			attempts.Go(func() { d.work(ctx, deliver, claim, claims) })
		}
	}
	timer := time.AfterFunc(grace, func() { cut(errStopping) })
	defer timer.Stop()
	attempts.Wait()
	cut(errStopping)
	janitor.Wait()
	d.pool.closeIdle(d.now().Add(time.Hour))
	d.pool.quits.Wait()
}

// workerTime is how long a worker waits for another claim. The stack of a new goroutine
// grows in steps that copy it: 3 % of the relay's processor time, where each message had one.
const workerTime = time.Second

// work delivers a claim, and then those that come, until none has come for workerTime or ctx
// ends.
func (d *Delivery) work(ctx context.Context, deliver func(*queue.Claim), claim *queue.Claim, claims <-chan *queue.Claim) {
	timer := time.NewTimer(workerTime)
	defer timer.Stop()
	for {
		deliver(claim)
		d.active.Add(-1)
		d.free()
		timer.Reset(workerTime)
		select {
		case claim = <-claims:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// waitForSlot waits until another attempt may begin, and reports whether it may.
func (d *Delivery) waitForSlot(ctx context.Context) bool {
	for d.active.Load() >= int64(d.settings.Load().Concurrency) {
		select {
		case <-ctx.Done():
			return false
		case <-d.freed:
		}
	}
	return ctx.Err() == nil
}

// free signals waitForSlot that another attempt may begin.
func (d *Delivery) free() {
	select {
	case d.freed <- struct{}{}:
	default:
	}
}

// tend closes sessions that were not used for a while, and ends waits that are too long
// while places are short, until ctx ends.
func (d *Delivery) tend(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if d.queue.PlacesShort() {
				d.places.reclaim(time.Now())
			}
			d.pool.closeIdle(d.now().Add(-idleTime))
		}
	}
}

// deliverSafely makes one attempt; content that is on its way outlives ctx until
// grace ends. A panic in it costs this attempt only.
func (d *Delivery) deliverSafely(ctx, grace context.Context, claim *queue.Claim) {
	if claim.Kind == queue.DelayNotice {
		if d.panics(claim, func() { d.notifyDelay(claim) }) != nil {
			d.queue.DelayNotified(claim, nil)
		}
		return
	}
	a := newAttempt(grace, d, claim)
	p := d.panics(claim, func() { a.run(ctx) })
	if p == nil {
		return
	}
	f := &attemptError{reason: failure.Internal, domainWide: true, text: fmt.Sprintf("internal error: %v", p)}
	if a.end.told || d.panics(claim, func() { a.fail(f); a.finish(f) }) != nil {
		// It is a reader of the Event that panics.
		a.trace.End(true, f.text)
		d.queue.Finish(claim, queue.Outcome{Results: f.states(claim), DomainBackoff: queue.DomainBackoff{Reason: f.queueReason()}})
	}
}

// panics calls fn, and returns the value of its panic, nil where there was none.
func (d *Delivery) panics(claim *queue.Claim, fn func()) (p any) {
	defer func() {
		if p = recover(); p != nil {
			d.log.Error("an attempt panicked; the message is tried again later", "queue_id", claim.Envelope.ID.String(), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	fn()
	return nil
}

// notifyDelay notifies the sender that claim is late because its domain is in back-off. The
// queue knows the age for it.
func (d *Delivery) notifyDelay(claim *queue.Claim) {
	states := slices.Clone(claim.States)
	for i := range states {
		s := &states[i]
		s.LastError, s.ReasonCode, s.Status, s.TLS = claim.BackoffReason.Text, claim.BackoffReason.Code, claim.BackoffReason.Status, ""
		s.Earlier = s.LastReply != ""
	}
	e := &Event{Kind: EventDelay, Claim: claim, QueueID: claim.Envelope.ID.String(), At: d.now(), Late: true, States: states, Relayed: make([]bool, len(states))}
	c := d.readers.changes(e)
	d.readers.ended(e)
	d.queue.DelayNotified(claim, c.Notices)
	queue.LogNotices(d.log, &claim.Envelope, c.Notices)
}
