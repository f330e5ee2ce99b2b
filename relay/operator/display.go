package operator

import (
	"fmt"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// The methods of this file return values as people read them, on a terminal and on
// the web page.

// Sender returns the reverse-path, and "<>" for the null sender as in SMTP.
func (m *Message) Sender() string { return Sender(m.From) }

// Sender returns a reverse-path, and "<>" for the null sender.
func Sender(from string) string {
	if from == "" {
		return "<>"
	}
	return from
}

// To returns the recipient that was deferred, and how many others there are.
func (m *Message) To() string {
	switch len(m.Recipients) {
	case 0:
		return ""
	case 1:
		return m.Recipients[0].Address
	}
	return fmt.Sprintf("%s +%d", m.waiting().Address, len(m.Recipients)-1)
}

// Why messages are held where the operator gives no reason.
var (
	heldByOperator = phrase.New("by the operator")
	importedOnHold = phrase.New("imported on hold")
)

// Held returns why the message is held, no text where it is not.
func (m *Message) Held() phrase.Phrase {
	for _, own := range []phrase.Phrase{heldByOperator, importedOnHold} {
		if m.HeldFor == own.String() {
			return own
		}
	}
	return phrase.Quote(m.HeldFor)
}

// Next returns when the message is tried next, or why it is not.
func (m *Message) Next() string {
	switch {
	case m.State != "queued":
		return m.State
	case m.Paused != nil:
		return m.Paused.short()
	}
	return human.Until(m.NextAttemptAt)
}

// Why returns why the message waits, or what its attempt under way has waited for longest.
func (m *Message) Why() string {
	if len(m.WaitsFor) > 0 {
		return "waits for " + m.WaitsFor[0].String()
	}
	return m.Reason.String()
}

// Next returns when mail of the domain is tried next.
func (d *DomainSummary) Next() string {
	if d.Paused != nil {
		return d.Paused.short()
	}
	return human.Until(d.NextAttemptAt)
}

// short says that something is paused, and for how long.
func (p *Pause) short() string {
	if p.Until == nil {
		return "paused"
	}
	return "paused " + human.Span(time.Until(*p.Until))
}

// Received returns how the message came in: the TLS version and the user.
func (m *Message) Received() string {
	in := "in clear"
	if m.TLSIn != "" {
		in = m.TLSIn
	}
	if m.Auth != "" {
		in += ", user " + m.Auth
	}
	return in
}

// String returns the code and the detail in one line.
func (r Reason) String() string { return strings.TrimSpace(r.Code + "  " + r.Detail) }

// Whose returns who can mend it, as one says of a problem that it is theirs.
func (r Reason) Whose() string {
	switch failure.Owner(r.Owner) {
	case failure.Remote:
		return "theirs"
	case failure.Local:
		return "ours"
	}
	return "the network's"
}

// Reasons returns the reasons in a summary, each once and without its detail. The
// remedy of a reason that several domains have speaks of DOMAIN.
func Reasons(list []DomainSummary) []Reason {
	domains := make(map[string][]string) // by code
	for _, d := range list {
		domains[d.Reason.Code] = append(domains[d.Reason.Code], d.Domain)
	}
	var out []Reason
	for _, d := range list {
		of, reason := domains[d.Reason.Code], d.Reason
		if reason.Code == failure.New.Code() || of[0] != d.Domain {
			continue
		}
		if reason.Detail = ""; len(of) > 1 {
			reason.Remedy = reason.Row().Remedy
		}
		out = append(out, reason)
	}
	return out
}

// Problem returns what is wrong with a policy, no text for nothing.
func (p *Policy) Problem() phrase.Phrase {
	if p.LastError == "" && p.ExpiresAt != nil && p.ExpiresAt.Before(time.Now()) {
		return phrase.New("it has expired, and is not applied any more")
	}
	return phrase.Quote(p.LastError)
}

// waiting returns the first queued recipient that was deferred, else the first
// queued one, else the first.
func (m *Message) waiting() *Recipient {
	r := &m.Recipients[0]
	for i := range m.Recipients {
		switch next := &m.Recipients[i]; {
		case next.State != "queued":
		case next.LastError != "" || next.DomainSince != nil:
			return next
		case r.State != "queued":
			r = next
		}
	}
	return r
}
