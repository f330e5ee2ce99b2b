package operator

import (
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// Message is a queued message.
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
	Reason        Reason      `json:"why"`
	Recipients    []Recipient `json:"recipients"`
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
	Reason    string `json:"why,omitempty"` // its code
}

// DomainSummary is what waits for one domain.
type DomainSummary struct {
	Domain        string     `json:"domain"`
	Messages      int        `json:"messages"`
	Recipients    int        `json:"recipients"`
	OldestAt      time.Time  `json:"oldest_at"`
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	LastError     string     `json:"last_error"`
	Reason        Reason     `json:"why"`
}

// Reason is why mail waits.
type Reason struct {
	// Code is of package failure.
	Code string `json:"code"`
	// Detail is what happened: at which host, and what exactly.
	Detail string `json:"detail"`
	// Owner is who can mend it: "them", "network" or "us".
	Owner string `json:"owner"`
	// Says is what the code means, Remedy what the operator can do.
	Says   string `json:"says"`
	Remedy string `json:"remedy"`
	// WayOut is how mail that must go now can, and what that costs; "" where no policy holds
	// it.
	WayOut string `json:"way_out,omitempty"`
}

// newMessage returns a message as the operator sees it. ours are the codes that are this
// relay's matter now.
func newMessage(m *queue.Message, ours []string) Message {
	out := Message{
		ID: m.ID.String(), State: string(m.State), From: m.From, Size: m.Size, ReceivedAt: m.ReceivedAt.UTC(),
		Client: m.Client, NextAttemptAt: timePointer(m.NextAttemptAt), Attempts: m.Attempts, HeldFor: m.HeldFor,
		Auth: m.Auth, TLSIn: m.TLS, EnvelopeID: m.EnvID, MessageID: m.MessageID, Recipients: make([]Recipient, len(m.Recipients)),
	}
	out.Reason = newReason(queue.Reason{}, "", out.ID, ours)
	for i, r := range m.Recipients {
		s := m.States[i]
		if s.LastError == "" && s.State == queue.Queued { // is its domain in back-off?
			s.ReasonCode, s.LastError = m.Backoffs[i].Code, m.Backoffs[i].Text
		}
		if out.Reason.Code == failure.New.Code() && s.State == queue.Queued {
			out.Reason = newReason(s.Reason(), r.Domain, out.ID, ours)
		}
		out.Recipients[i] = Recipient{Address: r.Address, State: string(s.State), Attempts: s.Attempts,
			LastReply: s.LastReply, LastError: s.LastError, TLS: s.TLS, Host: s.Host, Reason: s.ReasonCode}
	}
	if m.State == queue.Held {
		held := failure.Held
		if m.Unreadable {
			held = failure.Internal
		}
		out.Reason = newReason(queue.Reason{Code: held.Code(), Text: m.HeldFor}, "", out.ID, ours)
	}
	return out
}

// newReason explains why mail for a domain, or a message with an ID, waits. If
// there is no reason the mail is new. ours are the codes that are this relay's matter now.
func newReason(why queue.Reason, domain, id string, ours []string) Reason {
	if why == (queue.Reason{}) {
		why.Code = failure.New.Code()
	}
	row := failure.Of(why.Code)
	if slices.Contains(ours, row.Code) {
		row.Owner, row.Remedy = failure.Local, row.Shared
	}
	fill := strings.NewReplacer("DOMAIN", domain, "ID", id).Replace
	return Reason{Code: row.Code, Detail: why.Text, Owner: string(row.Owner), Says: row.Says, Remedy: fill(row.Remedy), WayOut: fill(row.WayOut())}
}

// timePointer returns nil for the zero time, which JSON shows as null.
func timePointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}
