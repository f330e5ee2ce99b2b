package admin

import (
	"fmt"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
)

// Sender is the reverse-path as people read it: the null sender as it stands in
// SMTP.
func (m *Message) Sender() string {
	if m.From == "" {
		return "<>"
	}
	return m.From
}

// To names the recipient that Why is about, and counts the others.
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

// Why is why the message is still here, in one line.
func (m *Message) Why() string {
	if m.HeldFor != "" {
		return m.HeldFor
	}
	if len(m.Recipients) > 0 {
		if r := m.waiting(); r.State == "queued" && r.LastError != "" {
			return r.LastError
		}
	}
	return "new"
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
