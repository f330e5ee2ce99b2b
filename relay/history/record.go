// Package history keeps what became of mail: one JSON line for each event of a
// message, in one file of zstd frames a day. It is written beside the way of a
// message and never holds it up; it is read by the operator, long after the
// message has left the queue.
//
// The files are read without this program too: zstdcat FILE | jq.
package history

import (
	"bytes"
	"encoding/json"
	"time"
)

// Kind is what a Record tells of.
type Kind string

// The kinds of records.
const (
	Accepted Kind = "accepted" // the relay has answered 250 for a message
	Attempt  Kind = "attempt"  // recipients to whom the same happened in one attempt
	Operator Kind = "operator" // somebody changed the message by hand
	Notice   Kind = "notice"   // a notice about the message was queued for its sender
	Gap      Kind = "gap"      // records may be missing here
	Forgot   Kind = "forgot"   // addresses were taken out of the file
)

// Record is one line of the history. Fields that do not belong to its Kind are
// empty and are not written.
type Record struct {
	At        time.Time `json:"at"`
	Kind      Kind      `json:"event"`
	QueueID   string    `json:"queue_id,omitempty"`
	MessageID string    `json:"message_id,omitempty"`
	// From is the envelope sender; it is empty for notices.
	From string `json:"from,omitempty"`
	// To are envelope recipients: all of the message, or those of the attempt that
	// had the same result.
	To     []string `json:"to,omitempty"`
	Domain string   `json:"domain,omitempty"`
	// Size is the size of the message in octets.
	Size int64 `json:"size,omitempty"`

	Client    string `json:"client,omitempty"`
	User      string `json:"user,omitempty"`
	ClientTLS string `json:"client_tls,omitempty"`

	// Verdict is what the attempt came to: delivered, deferred or bounced.
	Verdict string  `json:"verdict,omitempty"`
	Why     string  `json:"why,omitempty"`
	Host    string  `json:"host,omitempty"`
	IP      string  `json:"ip,omitempty"`
	Reply   string  `json:"reply,omitempty"`
	Status  string  `json:"status,omitempty"` // enhanced status code, RFC 3463
	Error   string  `json:"error,omitempty"`
	Number  int     `json:"attempt,omitempty"` // of the attempt; the first is 1
	Took    float64 `json:"took_seconds,omitempty"`
	TLS     *TLS    `json:"tls,omitempty"`

	// Who and What tell of a change by an operator.
	Who  string `json:"who,omitempty"`
	What string `json:"what,omitempty"`
	// NoticeID is the queue ID of a notice.
	NoticeID string `json:"notice_id,omitempty"`

	// MissingFrom, MissingTo and Lines belong to Gap: between these times records
	// may be missing, and how many were counted as dropped. Lines is the number of
	// lines changed for Forgot.
	MissingFrom *time.Time `json:"missing_from,omitempty"`
	MissingTo   *time.Time `json:"missing_to,omitempty"`
	Lines       uint64     `json:"lines,omitempty"`
}

// TLS is what is known of the session that an attempt used.
type TLS struct {
	Version string `json:"version,omitempty"`
	Cipher  string `json:"cipher,omitempty"`
	Group   string `json:"group,omitempty"`
	// OfferedAndBroke reports whether the host offered STARTTLS, and the handshake
	// failed.
	OfferedAndBroke bool  `json:"offered_and_broke,omitempty"`
	Proof           Proof `json:"proof"`
	// PolicyID, PolicyMode and PolicyFetched are of the domain's MTA-STS policy.
	PolicyID      string     `json:"policy_id,omitempty"`
	PolicyMode    string     `json:"policy_mode,omitempty"`
	PolicyFetched *time.Time `json:"policy_fetched,omitempty"`
	// TLSA is the record that matched (DANE), in presentation format.
	TLSA        string       `json:"tlsa,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
}

// Proof says who vouched for the host, the strongest first.
type Proof string

// The proofs.
const (
	ProofDANE      Proof = "dane"      // a TLSA record, signed by DNSSEC (RFC 7672)
	ProofSTS       Proof = "mta-sts"   // an MTA-STS policy in enforce or testing, and a certificate that is valid (RFC 8461)
	ProofVerified  Proof = "verified"  // a certificate that is valid for the MX host; nobody vouched for the host's name
	ProofEncrypted Proof = "encrypted" // TLS with a host that nobody vouched for
	ProofNone      Proof = "none"      // no TLS
)

// Certificate is the host's own certificate.
type Certificate struct {
	SHA256    string    `json:"sha256"` // of the whole certificate (DER), in hexadecimal
	Subject   string    `json:"subject,omitempty"`
	Names     []string  `json:"names,omitempty"` // subjectAltName
	Issuer    string    `json:"issuer,omitempty"`
	Serial    string    `json:"serial,omitempty"` // in hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`

	encoded []byte // as JSON; nil: not made yet
}

// encode returns v as one line of JSON. Message-IDs stay as they are: < and > are
// not escaped.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
