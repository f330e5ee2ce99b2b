package queue

import (
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// ID is the name of a message that people see: in the reply to the client, in logs and on
// the command line. IDs sort by time and are unique over restarts and relays.
type ID = ulid.ULID

// Kind is the origin of a message. It decides what a failure leads to.
type Kind uint8

const (
	// Mail is mail of people and programs.
	Mail Kind = iota
	// Notice is a delivery status notification of this relay (RFC 3464). It
	// waits behind mail, and nothing is sent about its own failure.
	Notice
	// Report is a TLS report of this relay (RFC 8460). It is sent even if TLS fails, and
	// its sessions are not counted.
	Report
)

// Envelope is what is known of a message when it is accepted. It never changes.
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
	// TLS is the TLS version of the session that it came in by, "" for clear text.
	TLS string `cbor:"9,keyasint,omitempty"`
	// EightBit reports whether MAIL had BODY=8BITMIME (RFC 6152).
	EightBit bool `cbor:"10,keyasint,omitempty"`
	// SMTPUTF8 reports whether the message needs that extension (RFC 6531).
	SMTPUTF8 bool `cbor:"11,keyasint,omitempty"`
	// RequireTLS reports whether MAIL had REQUIRETLS (RFC 8689).
	RequireTLS bool `cbor:"12,keyasint,omitempty"`
	// TLSOptional reports whether the header field "TLS-Required: No" (RFC 8689) is there
	// and honored.
	TLSOptional bool `cbor:"13,keyasint,omitempty"`
	// EnvID and Ret are the DSN parameters of MAIL (RFC 3461), decoded.
	EnvID string `cbor:"14,keyasint,omitempty"`
	Ret   string `cbor:"15,keyasint,omitempty"`

	// Chunks is the number of body chunks.
	Chunks int `cbor:"16,keyasint"`

	// MessageID is the value of the Message-ID field, with its brackets, "" if none is
	// known. It helps people to find a message.
	MessageID string `cbor:"17,keyasint,omitempty"`
	// Subject is the value of the Subject field as it came in, cut to 250 octets. It is there
	// for those who are told of a message when it is accepted, and is not stored.
	Subject string `cbor:"-"`
}

// CleanMessageID returns the value of a Message-ID field as an envelope has it: characters
// that cannot be printed are replaced, and longer values are cut to 250 octets.
func CleanMessageID(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxMessageID {
		return strings.Clone(s[:maxMessageID])
	}
	return s
}

// maxMessageID is the length of the longest Message-ID of an envelope, in octets.
const maxMessageID = 250

// Recipient is one forward-path.
type Recipient struct {
	// Address as it goes on the wire, quoted where needed.
	Address string `cbor:"1,keyasint"`
	// Domain is the domain that the message is delivered to: lower case, A-labels, or an
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

// RecipientState is the state of the delivery to one recipient.
type RecipientState struct {
	// State is Queued, Delivered or Bounced.
	State State `cbor:"1,keyasint"`
	// Attempts counts how often the recipient was due and tried.
	Attempts int `cbor:"2,keyasint,omitempty"`
	// LastReply is the last SMTP reply of a host, "" if no host answered.
	LastReply string `cbor:"3,keyasint,omitempty"`
	// LastError says in words why the last attempt did not deliver.
	LastError string `cbor:"4,keyasint,omitempty"`
	// TLS is what the last session proved, "TLS 1.3, verified by MTA-STS".
	TLS string `cbor:"5,keyasint,omitempty"`
	// Host is the host of the last attempt.
	Host string `cbor:"6,keyasint,omitempty"`
	// Delayed reports whether the sender was notified of the delay.
	Delayed bool `cbor:"7,keyasint,omitempty"`
	// ReasonCode and Status are those of LastError, as in Reason.
	ReasonCode string `cbor:"8,keyasint,omitempty"`
	// Earlier reports whether LastReply is from an attempt before the last one, and perhaps
	// from another host.
	Earlier bool   `cbor:"9,keyasint,omitempty"`
	Status  string `cbor:"10,keyasint,omitempty"`
}

// Reason is why mail waits. The codes are defined by relay/failure.
type Reason = scheduler.Reason

// Reason returns why the last attempt did not deliver.
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
	HeldFor       string // why it is held, "" if it is not
	Unreadable    bool   // whether it is held because the store cannot read it
	NextAttemptAt time.Time
	// ExpiresAt is when it is given up if it was not delivered; zero: never.
	ExpiresAt time.Time
	// Attempts is the highest count of its recipients.
	Attempts int
	States   []RecipientState // by index of Recipients
	Waits    []Wait           // by index of Recipients

	changes int // of entry, when it was read
	records map[int]groupRecord
	held    holdRecord
}

// Wait is how a recipient waits, as far as its state does not say so.
type Wait struct {
	// LastAttemptAt is when it was tried last; zero: it was not, or it has an end.
	LastAttemptAt time.Time
	// NextAttemptAt is when it is tried next; zero: it is held, or it has an end.
	NextAttemptAt time.Time
	// Backoff is why its domain is in back-off if it waits for the end of that, and
	// BackoffSince since when; else zero.
	Backoff      Reason
	BackoffSince time.Time
}

// DomainSummary is the mail that waits for one domain.
type DomainSummary struct {
	Domain     string
	Messages   int
	Recipients int
	// OldestAt is when the oldest of the messages came in.
	OldestAt time.Time
	// FailingSince is since when the domain as a whole has failed in each attempt, as far as
	// this process has seen it; zero: it has not, or was not tried.
	FailingSince  time.Time
	Ages          Ages
	NextAttemptAt time.Time
	// Last is why the last attempt that ended with mail still queued did not deliver it.
	Last Reason
}

// Counts are the totals of the queue.
type Counts struct {
	Messages   int
	Recipients int
	Held       int
	// Unreadable is the number of messages that the store cannot read. They are held, or,
	// if it is their envelope that cannot be read, not among Messages.
	Unreadable int
}
