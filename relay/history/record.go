// Package history records the events of each message: one JSON line per event, in one
// file of zstd frames a day. Writing the history never delays mail. Operators read it,
// also long after a message has left the queue.
//
// The files can also be read without this program: zstdcat FILE | jq.
package history

import (
	"time"

	"github.com/stsrelay/stsrelay/relay/security"
)

// Kind is the kind of event that a Record describes.
type Kind string

// The kinds of records.
const (
	Accepted Kind = "accepted" // the relay has replied 250 to a message
	Attempt  Kind = "attempt"  // recipients with the same result in one attempt
	Operator Kind = "operator" // an operator changed the message
	Notice   Kind = "notice"   // a notice about the message was queued
	Refused  Kind = "refused"  // a client's command was refused
	Gap      Kind = "gap"      // records may be missing here
	Forgot   Kind = "forgot"   // addresses were removed from the file
)

// Kinds are all kinds of records.
var Kinds = []Kind{Accepted, Attempt, Operator, Notice, Refused, Gap, Forgot}

// Record is one line of the history. Fields that do not belong to its Kind are
// empty and are not written.
type Record struct {
	At        time.Time `json:"at"`
	Kind      Kind      `json:"event"`
	QueueID   string    `json:"queue_id,omitempty"`
	MessageID string    `json:"message_id,omitempty"`
	// From is the envelope sender; it is empty for notices.
	From string `json:"from,omitempty"`
	// To are envelope recipients: all of the message, or those with the same result
	// in one attempt.
	To     []string `json:"to,omitempty"`
	Domain string   `json:"domain,omitempty"`
	// Size is the size of the message in octets.
	Size int64 `json:"size,omitempty"`

	// Subject is that of an accepted message, where Settings.Subject is set.
	Subject string `json:"subject,omitempty"`

	Client    string `json:"client,omitempty"`
	User      string `json:"user,omitempty"`
	ClientTLS string `json:"client_tls,omitempty"`

	// Verdict is the result of the attempt: delivered, deferred or bounced.
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

	// What is what an operator did, or the command that was refused.
	What string `json:"what,omitempty"`
	// By is the operator: the way, and their name where it is known.
	By string `json:"by,omitempty"`
	// Notice is the queue ID of a notice; To are those who get it.
	Notice string `json:"notice,omitempty"`

	// MissingFrom and MissingTo belong to Gap: between these times records may be
	// missing. Lines is the number of records counted as dropped for Gap, and the
	// number of lines changed for Forgot. For Refused it is the number of further
	// refusals that were not recorded one by one.
	MissingFrom *time.Time `json:"missing_from,omitempty"`
	MissingTo   *time.Time `json:"missing_to,omitempty"`
	Lines       uint64     `json:"lines,omitempty"`
}

// TLS describes the TLS properties of the session that an attempt used.
type TLS struct {
	Version string `json:"version,omitempty"`
	Cipher  string `json:"cipher,omitempty"`
	Group   string `json:"group,omitempty"`
	// OfferedAndBroke reports whether the host offered STARTTLS but the handshake
	// failed.
	OfferedAndBroke bool  `json:"offered_and_broke,omitempty"`
	Proof           Proof `json:"proof"`
	// PolicyID, PolicyMode and PolicyFetched describe the domain's MTA-STS policy.
	PolicyID      string     `json:"policy_id,omitempty"`
	PolicyMode    string     `json:"policy_mode,omitempty"`
	PolicyFetched *time.Time `json:"policy_fetched,omitempty"`
	// TLSA is the record that matched (DANE), in presentation format.
	TLSA        string       `json:"tlsa,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
}

// Proof is how the host was authenticated.
type Proof string

// The proofs, the strongest first. They are the protections of sessions by other names.
const (
	ProofDANE      = Proof(security.ByDANE)    // a TLSA record, signed by DNSSEC (RFC 7672)
	ProofSTS       = Proof(security.ByMTASTS)  // an MTA-STS policy in mode enforce or testing, and a valid certificate (RFC 8461)
	ProofVerified  = Proof(security.Verified)  // a valid certificate for the MX host, whose name comes from unsigned DNS
	ProofEncrypted = Proof(security.Encrypted) // TLS with a host that was not authenticated
	ProofNone      = Proof(security.Clear)     // no TLS
)

// Proofs are all proofs, the strongest first.
var Proofs = []Proof{ProofDANE, ProofSTS, ProofVerified, ProofEncrypted, ProofNone}

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
