package check

import (
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Severity is what a Problem means for mail.
type Severity string

const (
	// Fault: something published or offered does not work.
	Fault Severity = "fault"
	// Warning: it works, but perhaps not for long, or not for other senders.
	Warning Severity = "warning"
	// Note: worth knowing.
	Note Severity = "note"
)

// Problem is something that is wrong, or worth knowing.
type Problem struct {
	Severity Severity `json:"severity"`
	// Text says what it is.
	Text phrase.Phrase `json:"text"`
	// Rule is where the demand is written, "RFC 8461, 4.1", or a key of the
	// configuration.
	Rule string `json:"rule"`
	// Remedy says what to do about it.
	Remedy phrase.Phrase `json:"mend"`
}

// Report is what was found out about a domain. It is plain data, and Text and JSON both
// show all of it. What strangers sent is in it with control characters escaped.
type Report struct {
	Domain string    `json:"domain"`
	At     time.Time `json:"at"`
	// Rule is the operator's own rule for the domain, nil where there is none.
	Rule *OperatorRule `json:"rule,omitempty"`
	// Cached is what the running relay has in its policy cache, where it was
	// asked.
	Cached     *Cached     `json:"cached,omitempty"`
	Record     *Record     `json:"mta_sts_record,omitempty"`
	PolicyHost *PolicyHost `json:"policy_host,omitempty"`
	Policy     *Policy     `json:"policy,omitempty"`
	MX         MX          `json:"mx"`
	Hosts      []Host      `json:"hosts"`
	TLSRPT     *TLSRPT     `json:"tls_rpt,omitempty"`
	// Published is what this relay publishes for the domain, nil where it does not.
	Published *Published `json:"published_here,omitempty"`
	// Waiting is the mail for the domain in the running relay's queue, nil where there is
	// none, or no relay runs.
	Waiting *Waiting `json:"waiting,omitempty"`
	// Fallback is the way by the operator's fallback route, where mail goes that way, or
	// would have to; its Outcome is a part of this one.
	Fallback *Report `json:"fallback,omitempty"`
	Outcome  Outcome `json:"outcome"`
}

// OperatorRule is a [[domain]] table of the configuration.
type OperatorRule struct {
	Name     string    `json:"name"`
	TLS      string    `json:"tls"`
	Route    string    `json:"route"`    // host:port, or ""
	Fallback string    `json:"fallback"` // which mail takes the route only where no MX host can be used; "": all takes it
	MX       bool      `json:"mx"`
	User     string    `json:"user"`
	Override bool      `json:"override_policy"`
	Problems []Problem `json:"problems,omitempty"`
}

// Cached is an entry of the running relay's policy cache.
type Cached struct {
	// InForce reports whether the relay applies it, whatever is published now.
	InForce   bool       `json:"in_force"`
	ID        string     `json:"id"`
	Mode      string     `json:"mode"` // "": no policy, only a failure to get one
	MX        []string   `json:"mx"`
	FetchedAt *time.Time `json:"fetched_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	LastError string     `json:"last_error"`
}

// Published is the policy that this relay's configuration has for a domain of the operator,
// and how it differs from what the world sees.
type Published struct {
	ID   string `json:"id"`
	Mode string `json:"mode"`
	// Served reports whether the running relay serves this policy.
	Served   bool      `json:"served"`
	Problems []Problem `json:"problems,omitempty"`
}

// Waiting is mail that waits in the queue, and what its last attempt met. A check says
// nothing of a message, so that it cannot meet all of that itself.
type Waiting struct {
	Messages int `json:"messages"`
	// OldestAt is when the oldest of the messages came in.
	OldestAt time.Time `json:"oldest_at"`
	// FailingSince is since when the domain as a whole has failed in each attempt, as far as the
	// running relay has seen it; nil: it has not.
	FailingSince  *time.Time `json:"failing_since,omitempty"`
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	// Why is the code of the reason, Detail what happened.
	Why      string    `json:"why"`
	Detail   string    `json:"detail"`
	Problems []Problem `json:"problems,omitempty"`
}

// Record is the TXT records at _mta-sts.DOMAIN.
type Record struct {
	Name string `json:"name"`
	// TXT are the records as they stand there, each with its strings joined;
	// CNAME is where an alias leads.
	TXT   []string `json:"txt"`
	CNAME string   `json:"cname,omitempty"`
	// ID is that of the one valid record, "" where there is none.
	ID       string    `json:"id"`
	Problems []Problem `json:"problems,omitempty"`
}

// PolicyHost is mta-sts.DOMAIN and its answer.
type PolicyHost struct {
	URL     string   `json:"url"`
	Addrs   []string `json:"addresses"`
	Address string   `json:"address,omitempty"` // the one that answered
	TLS     string   `json:"tls,omitempty"`     // "TLS 1.3"
	// Status is the HTTP status, 0 without an answer.
	Status      int    `json:"status,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	// ContentEncoding is how the answer was compressed, "" where it was not.
	ContentEncoding string       `json:"content_encoding,omitempty"`
	Location        string       `json:"location,omitempty"`
	Certificate     *Certificate `json:"certificate,omitempty"`
	Problems        []Problem    `json:"problems,omitempty"`
}

// Policy is the text that the policy host served.
type Policy struct {
	// Lines are the text as it was received; MoreLines is how many are left out.
	Lines     []string `json:"lines"`
	MoreLines int      `json:"more_lines,omitempty"`
	// Valid reports whether it is a policy. The rest is set only then.
	Valid  bool     `json:"valid"`
	Mode   string   `json:"mode,omitempty"`
	MaxAge int64    `json:"max_age,omitempty"` // seconds
	MX     []string `json:"mx,omitempty"`
	// InForce reports whether this relay would apply it: there is a record for it, and
	// MTA-STS is switched on.
	InForce  bool      `json:"in_force"`
	Problems []Problem `json:"problems,omitempty"`
}

// MX is how the domain's hosts were found.
type MX struct {
	// From is "mx", "address" (no MX record: the domain itself), "literal",
	// "route" (the operator's), or "" where there is none.
	From string `json:"from"`
	// Secure reports whether the answer was validated by DNSSEC, or the operator named
	// the host.
	Secure   bool      `json:"dnssec"`
	CNAME    string    `json:"cname,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

// Host is one that may take the domain's mail, in the order of delivery.
type Host struct {
	Name       string   `json:"name"`
	Preference uint16   `json:"preference"`
	Port       uint16   `json:"port"`
	Addrs      []string `json:"addresses"`
	Secure     bool     `json:"dnssec"` // of the addresses
	CNAME      string   `json:"cname,omitempty"`
	// Pattern is the mx of the policy that covers the host.
	Pattern string `json:"pattern,omitempty"`
	// Admitted reports whether the relay would contact it: no enforced policy leaves it
	// out, and it can meet a demand for DANE.
	Admitted bool  `json:"admitted"`
	TLSA     *TLSA `json:"tlsa,omitempty"`
	// PublishTLSA are records that would let DANE vouch for the certificates that were
	// seen, in the form of a zone file: where the host's zone is signed, and it has no TLSA
	// records or none that match.
	PublishTLSA []string  `json:"publish_tlsa,omitempty"`
	Sessions    []Session `json:"sessions"`
	Problems    []Problem `json:"problems,omitempty"`
}

// TLSA is the host's TLSA records.
type TLSA struct {
	// Name is where they were found, Base the name of the host there.
	Name string `json:"name"`
	Base string `json:"base"`
	// Records are all of them. Secure reports whether DNSSEC validated them.
	Records []string `json:"records"`
	Secure  bool     `json:"dnssec"`
	// Applies reports whether DANE counts for this host: the records are validated, and
	// DANE is switched on. Usable is how many of them can authenticate the host.
	Applies bool `json:"applies"`
	Usable  int  `json:"usable"`
}

// Session is what one address of a host showed.
type Session struct {
	Address string `json:"address"`
	// Greeting is what the host said first.
	Greeting string `json:"greeting,omitempty"`
	// STARTTLS is "not offered", "refused", "broken" or "established", no text where
	// there was no session.
	STARTTLS phrase.Phrase `json:"starttls,omitzero"`
	TLS      string        `json:"tls,omitempty"` // "TLS 1.3"
	Cipher   string        `json:"cipher,omitempty"`
	Group    string        `json:"group,omitempty"` // of the key exchange; none where it is RSA
	// Offers are the versions of TLS that the host takes, Refuses those that it does not,
	// the newest first. They are tried at one address of the host that mail goes to, where
	// Options.Versions asks for it. A version that could not be tried is in neither.
	Offers  []string `json:"tls_offered,omitempty"`
	Refuses []string `json:"tls_refused,omitempty"`
	// SmallHello reports whether the host answered a small ClientHello only.
	SmallHello  bool         `json:"small_client_hello,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
	// TLSA is the record that the certificate matches.
	TLSA       string `json:"tlsa_match,omitempty"`
	RequireTLS bool   `json:"offers_requiretls"`
	// Verdicts are those of all who ask something of the session.
	Verdicts []Verdict `json:"verdicts"`
	// Usable reports whether mail may go over it. Protection is how it protects mail.
	Usable     bool          `json:"usable"`
	Protection phrase.Phrase `json:"worth,omitzero"`
	Problems   []Problem     `json:"problems,omitempty"`
}

// Verdict is what one source says of a session.
type Verdict struct {
	Source phrase.Phrase `json:"source"`
	// Binding reports whether it may hold mail.
	Binding bool `json:"binding"`
	Met     bool `json:"met"`
	// Type is the result type of TLS reports where it is not met.
	Type   string        `json:"type,omitempty"`
	Reason phrase.Phrase `json:"reason,omitzero"`
}

// Certificate is a host's own certificate and the verdict on its chain.
type Certificate struct {
	Names      []string  `json:"names"`
	CommonName string    `json:"common_name,omitempty"`
	Issuer     string    `json:"issuer"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	// DaysLeft is whole days until NotAfter, negative after it.
	DaysLeft int `json:"days_left"`
	// Key is the kind and size of its public key, "RSA 2048", "ECDSA P-256".
	Key string `json:"key"`
	// Chain are the issuers of the certificates that were shown, leaf first; Shown are
	// these certificates.
	Chain []string     `json:"chain"`
	Shown []ChainEntry `json:"chain_certificates"`
	// Trusted reports whether the chain leads to a trusted root, with all certificates
	// in date. Why is the reason where it does not.
	Trusted bool          `json:"trusted"`
	Why     phrase.Phrase `json:"why,omitzero"`
	// Named reports whether it is for the host's name.
	Named bool `json:"named"`
}

// ChainEntry is a certificate of a chain.
type ChainEntry struct {
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
}

// TLSRPT is the TXT records at _smtp._tls.DOMAIN.
type TLSRPT struct {
	Name     string    `json:"name"`
	TXT      []string  `json:"txt"`
	CNAME    string    `json:"cname,omitempty"`
	RUA      []string  `json:"rua"`
	Problems []Problem `json:"problems,omitempty"`
}

// Outcome is what would become of mail that is due now.
type Outcome struct {
	// Deliverable reports whether it would leave.
	Deliverable bool `json:"goes"`
	// Action is "deliver", "wait" or "bounce".
	Action string `json:"action"`
	// Host, Address and TLS are where it would go to, and over what.
	Host    string        `json:"host,omitempty"`
	Address string        `json:"address,omitempty"`
	TLS     phrase.Phrase `json:"tls,omitzero"`
	// Text says all that in a sentence.
	Text phrase.Phrase `json:"text"`
}
