package adminapi

import (
	"fmt"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// Sender is the reverse-path as people read it: the null sender as it stands in
// SMTP.
func (m *Message) Sender() string {
	if m.From == "" {
		return "<>"
	}
	return m.From
}

// To names the recipient that waits for a reason, and counts the others.
func (m *Message) To() string {
	switch len(m.Recipients) {
	case 0:
		return ""
	case 1:
		return m.Recipients[0].Address
	}
	return fmt.Sprintf("%s +%d", m.waiting().Address, len(m.Recipients)-1)
}

// Next is when the message is tried next, or the state that keeps it from that.
func (m *Message) Next() string {
	if m.State != "queued" {
		return m.State
	}
	return human.Until(m.NextAttemptAt)
}

// Received is how the message came in: over which TLS, and who had logged in.
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

// Reasons are the reasons that stand in a summary, each once and without its
// detail. What helps with that of several domains speaks of any DOMAIN.
func Reasons(list []DomainSummary) []Why {
	domains := make(map[string][]string) // by reason
	for _, d := range list {
		domains[d.Why.Code] = append(domains[d.Why.Code], d.Domain)
	}
	var out []Why
	for _, d := range list {
		of, why := domains[d.Why.Code], d.Why
		if why.Code == failure.New.Code() || of[0] != d.Domain {
			continue
		}
		if why.Detail = ""; len(of) > 1 {
			why.Remedy = strings.ReplaceAll(why.Remedy, d.Domain, "DOMAIN")
		}
		out = append(out, why)
	}
	return out
}

// Ailment is what is wrong with a policy, "" for nothing.
func (p *Policy) Ailment() string {
	if p.LastError == "" && p.ExpiresAt != nil && p.ExpiresAt.Before(time.Now()) {
		return "it has expired, and is not applied any more"
	}
	return p.LastError
}

// waiting is the first recipient that is still queued and was put off for a
// reason; else the first that is queued, else the first.
func (m *Message) waiting() *Recipient {
	r := &m.Recipients[0]
	for i := range m.Recipients {
		switch next := &m.Recipients[i]; {
		case next.State != "queued":
		case next.LastError != "":
			return next
		case r.State != "queued":
			r = next
		}
	}
	return r
}
