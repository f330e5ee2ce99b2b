package queue

import (
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// ID names a message to people: in the reply to the sender, in logs and on the
// command line. It is sortable by time and unique over restarts and relays.
type ID = ulid.ULID

// Kind says whose mail a message is. It decides what a failure leads to.
type Kind uint8

const (
	// Mail is mail of people and programs.
	Mail Kind = iota
	// Notice is a delivery status notification of this relay (RFC 3464). It
	// waits behind mail, and nothing is sent about its own failure.
	Notice
	// Report is a TLS report of this relay (RFC 8460). It goes out whatever
	// the TLS of its way, and its sessions are not counted.
	Report
)

// Envelope is what a message is accepted with. It never changes.
type Envelope struct {
	ID   ID   `cbor:"1,keyasint"`
	Kind Kind `cbor:"2,keyasint,omitempty"`
	// From is the reverse-path without angle brackets, "" for the null sender.
	From       string      `cbor:"3,keyasint"`
	Recipients []Recipient `cbor:"4,keyasint"`
	// Size of the message in octets, as stored (RFC 1870).
	Size int64 `cbor:"5,keyasint"`
	// ReceivedAt is the time of acceptance.
	ReceivedAt time.Time `cbor:"6,keyasint"`
	// Client is the sending host as it is shown to people, "ex01 [10.0.0.5]".
	Client string `cbor:"7,keyasint,omitempty"`
	// Auth is the authenticated user, "" where there was none.
	Auth string `cbor:"8,keyasint,omitempty"`
	// TLS is the TLS version of the way in, "" in clear.
	TLS string `cbor:"9,keyasint,omitempty"`
	// EightBit says BODY=8BITMIME (RFC 6152).
	EightBit bool `cbor:"10,keyasint,omitempty"`
	// SMTPUTF8 says that the message needs it (RFC 6531).
	SMTPUTF8 bool `cbor:"11,keyasint,omitempty"`
	// RequireTLS is the parameter REQUIRETLS of MAIL (RFC 8689).
	RequireTLS bool `cbor:"12,keyasint,omitempty"`
	// TLSOptional is the header "TLS-Required: No" (RFC 8689), where it is honored.
	TLSOptional bool `cbor:"13,keyasint,omitempty"`
	// EnvID and Ret are the DSN parameters of MAIL (RFC 3461), decoded.
	EnvID string `cbor:"14,keyasint,omitempty"`
	Ret   string `cbor:"15,keyasint,omitempty"`

	// Chunks is the number of body chunks.
	Chunks int `cbor:"16,keyasint"`

	// MessageID is the content's Message-ID field with its brackets, "" where none
	// is known. It is for people who look for a message.
	MessageID string `cbor:"17,keyasint,omitempty"`
}

// CleanMessageID makes the value of a Message-ID field fit for an envelope: what
// cannot be printed is replaced, and 250 octets are kept of a longer one.
func CleanMessageID(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return strings.Clone(s[:min(len(s), maxMessageID)])
}

// maxMessageID is the most of a Message-ID that an envelope has, in octets.
const maxMessageID = 250

// Recipient is one forward-path.
type Recipient struct {
	// Address as it goes on the wire, quoted where needed.
	Address string `cbor:"1,keyasint"`
	// Domain is the part that decides the way: lower case, A-labels, or an
	// address literal.
	Domain string `cbor:"2,keyasint"`
	// Notify and ORcpt are the DSN parameters of RCPT (RFC 3461), ORcpt
	// decoded, "rfc822;user@example.com".
	Notify []string `cbor:"3,keyasint,omitempty"`
	ORcpt  string   `cbor:"4,keyasint,omitempty"`
}

// State is the state of a message or of a recipient.
type State string

// The states of a message, and of a recipient (queued, delivered, bounced).
const (
	Queued    State = "queued"
	Active    State = "active" // being delivered now
	Held      State = "held"
	Delivered State = "delivered"
	Bounced   State = "bounced"
)

// RecipientState is where the delivery to one recipient stands.
type RecipientState struct {
	// State is Queued, Delivered or Bounced.
	State State `cbor:"1,keyasint"`
	// Attempts counts how often the recipient was due and tried.
	Attempts int `cbor:"2,keyasint,omitempty"`
	// LastReply is the last SMTP reply of a host, "" where none answered.
	LastReply string `cbor:"3,keyasint,omitempty"`
	// LastError says in words why the last attempt did not end it.
	LastError string `cbor:"4,keyasint,omitempty"`
	// TLS is what the last session proved, "TLS 1.3, verified by MTA-STS".
	TLS string `cbor:"5,keyasint,omitempty"`
	// Host is the host of the last attempt.
	Host string `cbor:"6,keyasint,omitempty"`
	// Delayed says that the sender was told of the delay.
	Delayed bool `cbor:"7,keyasint,omitempty"`
	// ReasonCode and Status are those of LastError, as in Reason.
	ReasonCode string `cbor:"8,keyasint,omitempty"`
	// Earlier says that LastReply is of an attempt before the last one, and perhaps
	// of another host.
	Earlier bool   `cbor:"9,keyasint,omitempty"`
	Status  string `cbor:"10,keyasint,omitempty"`
}

// Reason is why mail waits. Its codes belong to those who deliver.
type Reason = scheduler.Reason

// Reason returns why the last attempt did not end it.
func (s *RecipientState) Reason() Reason {
	return Reason{Code: s.ReasonCode, Status: s.Status, Text: s.LastError}
}

// UnmarshalCBOR reads a state. Those of versions without Status have it at the
// beginning of LastError.
func (s *RecipientState) UnmarshalCBOR(data []byte) error {
	type fields RecipientState
	if err := decoding.Unmarshal(data, (*fields)(s)); err != nil {
		return err
	}
	if s.Status == "" {
		s.Status = statusOf(s.LastError)
	}
	return nil
}

// statusOf returns the enhanced status code (RFC 3463) that a text begins with, ""
// if it begins with none.
func statusOf(text string) string {
	code, _, _ := strings.Cut(text, " ")
	parts := strings.Split(code, ".")
	if len(parts) != 3 || slices.ContainsFunc(parts, func(p string) bool { return p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" }) {
		return ""
	}
	return code
}

// Message is a message as it stands in the queue now.
type Message struct {
	Envelope
	State         State
	HeldFor       string // why it is held, "" where it is not
	Unreadable    bool   // it is held because the store cannot read it
	NextAttemptAt time.Time
	// Attempts is the highest count of its recipients.
	Attempts int
	States   []RecipientState // by index of Recipients
	Backoffs []Reason         // why the recipient waits for the back-off of its domain, by index; zero where it does not

	changes int // of entry, when it was read
	records map[int]groupRecord
	held    holdRecord
}

// DomainSummary is the mail that waits for one domain.
type DomainSummary struct {
	Domain        string
	Messages      int
	Recipients    int
	OldestAt      time.Time
	NextAttemptAt time.Time
	// Last is why the last attempt that did not end a message did not.
	Last Reason
}

// Counts are the totals of the queue.
type Counts struct {
	Messages   int
	Recipients int
	Held       int
	// Unreadable are those that the store cannot read: held, or, where that is true
	// of their envelope, not among Messages.
	Unreadable int
}
