// Package adminapi is how the operator reaches a running relay: HTTP and JSON on a
// unix socket, used by the command line; on TCP a web page that can only be read,
// health and metrics. It decides nothing; it asks the parts and shows what they
// say. docs/admin-api.md and docs/web.md list the paths.
package adminapi

import (
	"log/slog"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/sts"
)

// Message is a queued message as it is shown.
type Message struct {
	ID            string      `json:"id"`
	State         string      `json:"state"` // queued, active, held
	From          string      `json:"from"`
	Size          int64       `json:"size"` // octets
	ReceivedAt    time.Time   `json:"received_at"`
	Client        string      `json:"client"`
	NextAttemptAt *time.Time  `json:"next_attempt_at"`
	Attempts      int         `json:"attempts"`
	HeldFor       string      `json:"held_for,omitempty"`
	Auth          string      `json:"auth,omitempty"`
	TLSIn         string      `json:"tls_in,omitempty"`
	EnvelopeID    string      `json:"envelope_id,omitempty"`
	MessageID     string      `json:"message_id"` // the content's, "" where it is not known
	Why           Why         `json:"why"`
	Recipients    []Recipient `json:"recipients"`
}

// Why is why mail waits.
type Why struct {
	// Code is of package reason.
	Code string `json:"code"`
	// Detail is what was met: of whom, and what exactly.
	Detail string `json:"detail"`
	// Owner is who can mend it: "them", "network" or "us".
	Owner string `json:"owner"`
	// Says is what the code means, Remedy what the operator can do.
	Says   string `json:"says"`
	Remedy string `json:"remedy"`
}

// String is the code and the detail, in one line.
func (w Why) String() string { return strings.TrimSpace(w.Code + "  " + w.Detail) }

// Whose says whose matter it is.
func (w Why) Whose() string {
	switch failure.Owner(w.Owner) {
	case failure.Remote:
		return "theirs"
	case failure.Local:
		return "ours"
	}
	return "the network's"
}

// Recipient is where the delivery to one recipient stands.
type Recipient struct {
	Address   string `json:"address"`
	State     string `json:"state"` // queued, delivered, bounced
	Attempts  int    `json:"attempts"`
	LastReply string `json:"last_reply"`
	LastError string `json:"last_error"`
	TLS       string `json:"tls"`
	Host      string `json:"host,omitempty"`
	Why       string `json:"why,omitempty"`
}

// DomainSummary is what waits for one domain.
type DomainSummary struct {
	Domain        string     `json:"domain"`
	Messages      int        `json:"messages"`
	Recipients    int        `json:"recipients"`
	OldestAt      time.Time  `json:"oldest_at"`
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	LastError     string     `json:"last_error"`
	Why           Why        `json:"why"`
}

// Policy is an entry of the policy cache.
type Policy struct {
	Domain        string     `json:"domain"`
	ID            string     `json:"id"`
	Mode          string     `json:"mode"`
	MX            []string   `json:"mx"`
	MaxAge        int64      `json:"max_age"` // seconds
	FetchedAt     *time.Time `json:"fetched_at"`
	ExpiresAt     *time.Time `json:"expires_at"`
	LastUsedAt    *time.Time `json:"last_used_at"`
	NextRefreshAt *time.Time `json:"next_refresh_at"`
	LastError     string     `json:"last_error"`
	LastErrorAt   *time.Time `json:"last_error_at,omitempty"`
}

// Status is the state of the relay as a whole.
type Status struct {
	Version       string        `json:"version"`
	UptimeSeconds int64         `json:"uptime_seconds"`
	Hostname      string        `json:"hostname"`
	Accepting     bool          `json:"accepting"`
	Delivering    bool          `json:"delivering"`
	Problem       string        `json:"problem,omitempty"`
	Troubles      []Trouble     `json:"troubles"`    // as of the last minutes
	LogDropped    uint64        `json:"log_dropped"` // lines that nobody has read
	SinceStart    SinceStart    `json:"since_start"`
	Queue         QueueStatus   `json:"queue"`
	Sessions      SessionStatus `json:"sessions"`
}

// TroubleAccepting is the key of the trouble that no mail is taken in, which is
// Status.Problem too.
const TroubleAccepting = "accepting"

// Trouble is something that needs a person.
type Trouble struct {
	// Key names what is wrong, from one look to the next.
	Key   string `json:"key"`
	What  string `json:"what"`
	Helps string `json:"helps"`
}

// SinceStart counts since the start of the relay.
type SinceStart struct {
	Accepted  int64 `json:"accepted"`  // messages taken in
	Delivered int64 `json:"delivered"` // recipients
	Deferred  int64 `json:"deferred"`  // recipients, each time they were put off
	Bounced   int64 `json:"bounced"`   // recipients
}

// QueueStatus are the totals of the queue.
type QueueStatus struct {
	Messages   int `json:"messages"`
	Recipients int `json:"recipients"`
	Held       int `json:"held"`
}

// SessionStatus are the SMTP sessions that are open.
type SessionStatus struct {
	In  int `json:"in"`
	Out int `json:"out"`
}

// Selection says which messages a change is for: IDs, or a filter, or all.
type Selection struct {
	IDs       []string `json:"ids,omitempty"`
	Domain    string   `json:"domain,omitempty"`
	From      string   `json:"from,omitempty"`
	To        string   `json:"to,omitempty"`
	State     string   `json:"state,omitempty"`
	OlderThan string   `json:"older_than,omitempty"` // "2h"
	All       bool     `json:"all,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	// DryRun counts what remove or bounce would touch, and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// attrs are what is set of it, for the log.
func (s *Selection) attrs() (attrs []slog.Attr) {
	if len(s.IDs) > 0 {
		attrs = append(attrs, slog.Any("ids", s.IDs))
	}
	for _, a := range []slog.Attr{
		slog.String("domain", s.Domain), slog.String("from", s.From), slog.String("to", s.To), slog.String("state", s.State),
		slog.String("older_than", s.OlderThan), slog.String("reason", s.Reason),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if s.All {
		attrs = append(attrs, slog.Bool("all", true))
	}
	return attrs
}

// Reloaded is the answer to a reload.
type Reloaded struct {
	Reloaded bool `json:"reloaded"`
	// Restart are the keys that have changed in the file and count from the next
	// start only.
	Restart []string `json:"restart"`
}

// Touched is the answer to a change.
type Touched struct {
	Touched int `json:"touched"`
	// Missing are the IDs that are not in the queue.
	Missing []string `json:"missing,omitempty"`
	// Ambiguous are the beginnings of several messages' IDs.
	Ambiguous []string `json:"ambiguous,omitempty"`
}

func newMessage(m *queue.Message) Message {
	out := Message{
		ID: m.ID.String(), State: string(m.State), From: m.From, Size: m.Size, ReceivedAt: m.ReceivedAt.UTC(),
		Client: m.Client, NextAttemptAt: timePointer(m.NextAttemptAt), Attempts: m.Attempts, HeldFor: m.HeldFor,
		Auth: m.Auth, TLSIn: m.TLS, EnvelopeID: m.EnvID, MessageID: m.MessageID, Recipients: make([]Recipient, len(m.Recipients)),
	}
	out.Why = newWhy(queue.Reason{}, "", out.ID)
	for i, r := range m.Recipients {
		s := m.States[i]
		if s.LastError == "" && s.State == queue.Queued { // does its domain rest?
			s.ReasonCode, s.LastError = m.Backoffs[i].Code, m.Backoffs[i].Text
		}
		if out.Why.Code == failure.New.Code() && s.State == queue.Queued {
			out.Why = newWhy(s.Reason(), r.Domain, out.ID)
		}
		out.Recipients[i] = Recipient{Address: r.Address, State: string(s.State), Attempts: s.Attempts,
			LastReply: s.LastReply, LastError: s.LastError, TLS: s.TLS, Host: s.Host, Why: s.ReasonCode}
	}
	if m.State == queue.Held {
		why := failure.Held
		if m.Unreadable {
			why = failure.Internal
		}
		out.Why = newWhy(queue.Reason{Code: why.Code(), Text: m.HeldFor}, "", out.ID)
	}
	return out
}

// newWhy explains a reason; what waits without one is new.
func newWhy(why queue.Reason, domain, id string) Why {
	if why == (queue.Reason{}) {
		why.Code = failure.New.Code()
	}
	r := failure.Of(why.Code)
	return Why{Code: r.Code, Detail: why.Text, Owner: string(r.Owner), Says: r.Says, Remedy: strings.NewReplacer("DOMAIN", domain, "ID", id).Replace(r.Remedy)}
}

func newPolicy(e sts.Entry) Policy {
	p := Policy{
		Domain: e.Domain, ID: e.ID, MX: []string{}, FetchedAt: timePointer(e.FetchedAt), ExpiresAt: timePointer(e.ExpiresAt),
		LastUsedAt: timePointer(e.LastUsed), NextRefreshAt: timePointer(e.NextRefresh),
		LastError: e.LastError, LastErrorAt: timePointer(e.LastErrorAt),
	}
	if e.Policy != nil {
		p.Mode, p.MaxAge = string(e.Policy.Mode), int64(e.Policy.MaxAge/time.Second)
		p.MX = append(p.MX, e.Policy.MX...)
	}
	return p
}

// timePointer is nil for the zero time, which JSON shows as null.
func timePointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}
