// Package operator has every read and every change that an operator can make on a
// running relay: of the queue and its trash, the policy cache, the TLS reports,
// and the relay as a whole. Its methods check what was asked for, do it, and
// write the log line that says who did it. They return Go values with the JSON
// tags of docs/admin-api.md.
//
// It knows neither sockets nor pages. relay/adminapi and relay/web are two ways
// to it, and what one of them can do the other can do by calling the same method.
package operator

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/live"
	"github.com/stsrelay/stsrelay/relay/received"
	"github.com/stsrelay/stsrelay/relay/trace"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Options configures New. Queue and Status are required.
type Options struct {
	Queue *queue.Queue
	// Fleet is the other relays that share an engine with this one; nil: it is alone.
	Fleet *Fleet
	// Store is the relay's own disk, for a backup: a store that relays share has its own.
	Store store.Reader
	// Policies is the policy cache; nil: MTA-STS is off.
	Policies *sts.Manager
	// NoHost tells why the DNS has no mail host for a domain, nil where it has one, or that is
	// not known; nil: it is not asked.
	NoHost func(ctx context.Context, domain string) error
	// Reports returns what makes and sends TLS reports. The error says why this relay
	// makes none. nil: they are switched off.
	Reports func() (*tlsrpt.Reporter, error)
	// History is what became of mail.
	History *history.Log
	// Received has the TLS reports that others sent.
	Received *received.Archive
	// Live measures the relay, for the live view.
	Live *live.Meter
	// Trace has what attempts say and hear.
	Trace *trace.Tracer
	// Hostname and Version are of the relay, for evidence.
	Hostname, Version string
	// Status returns the part of the status that the queue does not know.
	Status func() Status
	// ResolverSilent reports whether no resolver answers; nil: one does.
	ResolverSilent func() bool
	// Reload reads the configuration again. It returns the keys that change with
	// the next start only.
	Reload func(ctx context.Context) (restart []string, err error)
	// Check finds out what the relay would do with mail for a domain of a sender's domain,
	// "" for any; nil: it cannot.
	Check func(ctx context.Context, domain, sender string) (*check.Report, error)
	// Published returns the domains whose policies are served. RenewPublished orders a
	// certificate for the policy host of one.
	Published      func() []Published
	RenewPublished func(ctx context.Context, domain string) error
	// FleetStatus returns the relays that share a PostgreSQL with this one; nil: it is alone.
	FleetStatus func(ctx context.Context) *FleetStatus
	// Notice returns the notice to the sender of a message that the operator has
	// bounced. If it is nil or returns nil, no notice is sent.
	Notice func(m queue.Message, reason string) *queue.NewMessage
	Logger *slog.Logger
}

// Operator is a running relay as its operator sees it.
type Operator struct {
	o      Options
	shared shared
	hours  hours
	checks checks
}

// New returns an Operator.
func New(o Options) *Operator {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Operator{o: o}
}

// Actor is who makes a change. Each change logs it as "actor".
type Actor struct {
	// Via is the way by which the actor reached the relay: "socket" or "web".
	Via string
	// User is the actor's name there: the user ID of the process at the other end
	// of the socket, or the user of a web session. It is "" where it is not known.
	User string
}

// LogValue implements slog.LogValuer.
func (a Actor) LogValue() slog.Value { return slog.StringValue(a.String()) }

// String returns the way and the name.
func (a Actor) String() string { return strings.TrimSpace(a.Via + " " + a.User) }

// log writes the line of a change, and adds it to the history.
func (o *Operator) log(ctx context.Context, actor Actor, msg string, attrs ...slog.Attr) {
	o.logOnly(ctx, actor, msg, attrs...)
	o.record(actor, history.Record{What: msg}, attrs...)
}

// logOnly is log for a change of messages, each of which is in the history by itself.
func (o *Operator) logOnly(ctx context.Context, actor Actor, msg string, attrs ...slog.Attr) {
	o.o.Logger.LogAttrs(ctx, slog.LevelInfo, msg, append(slices.Clip(attrs), slog.Any("actor", actor))...)
}

// record adds to the history what an actor did; r has what, and what it is about.
func (o *Operator) record(actor Actor, r history.Record, attrs ...slog.Attr) {
	if o.o.History == nil {
		return
	}
	for _, a := range attrs {
		if a.Value.String() == "" {
			continue
		}
		if a.Key == "domain" {
			r.Domain = a.Value.String()
		}
		r.What += " " + a.String()
	}
	r.Kind, r.By = history.Operator, actor.String()
	o.o.History.Add(r)
}
