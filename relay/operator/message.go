package operator

import (
	"fmt"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// Message is a queued message.
type Message struct {
	ID            string     `json:"id"`
	State         string     `json:"state"` // queued, active, held
	From          string     `json:"from"`
	Size          int64      `json:"size"` // octets
	ReceivedAt    time.Time  `json:"received_at"`
	Client        string     `json:"client"`
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	Attempts      int        `json:"attempts"`
	// GivesUpAt is when it is given up if it was not delivered; nil: never, or not while it
	// is held.
	GivesUpAt *time.Time `json:"gives_up_at"`
	// Paused is the pause that keeps it from being tried, nil for none.
	Paused     *Pause `json:"paused,omitempty"`
	HeldFor    string `json:"held_for,omitempty"`
	Auth       string `json:"auth,omitempty"`
	TLSIn      string `json:"tls_in,omitempty"`
	EnvelopeID string `json:"envelope_id,omitempty"`
	MessageID  string `json:"message_id"` // the content's, "" where it is not known
	Reason     Reason `json:"why"`
	// Relay is the relay of a fleet that has it, "" where there is one relay.
	Relay string `json:"relay,omitempty"`
	// WaitsFor is what the attempts under way wait for.
	WaitsFor   []Awaited   `json:"waits_for,omitempty"`
	Recipients []Recipient `json:"recipients"`
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
	// LastAttemptAt and NextAttemptAt are nil where it was not tried, will not be, or has an
	// end.
	LastAttemptAt *time.Time `json:"last_attempt_at"`
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	// DomainSince is since when its domain cannot be reached if it waits for that, else nil;
	// Reason and DomainError are why then.
	DomainSince *time.Time `json:"domain_since,omitempty"`
	DomainError string     `json:"domain_error,omitempty"`
}

// DomainSummary is what waits for one domain.
type DomainSummary struct {
	Domain     string `json:"domain"`
	Messages   int    `json:"messages"`
	Recipients int    `json:"recipients"`
	// OldestAt is when the oldest of the messages came in.
	OldestAt time.Time `json:"oldest_at"`
	// FailingSince is since when the domain as a whole has failed in each attempt: no host could
	// be reached, or none met what is asked of it. nil: that is not so, or not known, as of other
	// relays and of the time before the start.
	FailingSince *time.Time `json:"failing_since,omitempty"`
	// Ages is how many recipients wait for less than 5, 10, 20, 40, 80, 160, 320, 640, and
	// 1,280 minutes, and longer.
	Ages          queue.Ages `json:"ages"`
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	LastError     string     `json:"last_error"`
	Reason        Reason     `json:"why"`
	Paused        *Pause     `json:"paused,omitempty"` // nil: it is not paused
}

// Reason is why mail waits.
type Reason struct {
	// Code is of package failure.
	Code string `json:"code"`
	// Detail is what happened: at which host, and what exactly.
	Detail string `json:"detail"`
	// Owner is who can mend it: "them", "network" or "us".
	Owner string `json:"owner"`
	// Says is what the code means, Remedy what the operator can do, with the names filled in.
	// Row has the text that others can fill in, and translate.
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
		to, why := newRecipient(r.Address, &m.States[i], &m.Waits[i])
		if out.Reason.Code == failure.New.Code() && m.States[i].State == queue.Queued {
			out.Reason = newReason(why, r.Domain, out.ID, ours)
		}
		out.Recipients[i] = to
	}
	if m.State != queue.Held {
		out.GivesUpAt = timePointer(m.ExpiresAt)
	} else {
		held := failure.Held
		if m.Unreadable {
			held = failure.Internal
		}
		out.Reason = newReason(queue.Reason{Code: held.Code(), Text: m.HeldFor}, "", out.ID, ours)
	}
	return out
}

// newRecipient returns a recipient as the operator sees it, and why it waits. One that was not
// tried because its domain could not be reached has no error of its own.
func newRecipient(address string, s *queue.RecipientState, w *queue.Wait) (Recipient, queue.Reason) {
	to := Recipient{Address: address, State: string(s.State), Attempts: s.Attempts, LastReply: s.LastReply, LastError: s.LastError,
		TLS: s.TLS, Host: s.Host, LastAttemptAt: timePointer(w.LastAttemptAt), NextAttemptAt: timePointer(w.NextAttemptAt)}
	why := s.Reason()
	if s.State == queue.Queued && s.LastError == "" && w.Backoff != (queue.Reason{}) {
		to.DomainSince, to.DomainError = timePointer(w.BackoffSince), w.Backoff.Text
		why = w.Backoff
		why.Text = fmt.Sprintf("waits with its domain since %s: %s", human.Clock(w.BackoffSince), w.Backoff.Text)
	}
	to.Reason = why.Code
	return to, why
}

// newReason explains why mail for a domain, or a message with an ID, waits. If
// there is no reason the mail is new. ours are the codes that are this relay's matter now.
func newReason(why queue.Reason, domain, id string, ours []string) Reason {
	if why == (queue.Reason{}) {
		why.Code = failure.New.Code()
	}
	row := failure.Of(why.Code)
	if slices.Contains(ours, row.Code) {
		row = row.Ours()
	}
	return Reason{Code: row.Code, Detail: why.Text, Owner: string(row.Owner), Says: row.Says,
		Remedy: failure.Fill(row.Remedy, domain, id), WayOut: failure.Fill(row.WayOut(), domain, id)}
}

// Row returns the row of the reason in the table, as it was when the reason was made.
func (r Reason) Row() failure.Row {
	row := failure.Of(r.Code)
	if failure.Owner(r.Owner) == failure.Local {
		return row.Ours()
	}
	return row
}

// timePointer returns nil for the zero time, which JSON shows as null.
func timePointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}
