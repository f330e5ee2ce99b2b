// Package publish is MTA-STS (RFC 8461), the receiving side: the text of a policy and its
// id, the DNS records that belong to it, the rules that a policy should keep, and the
// verdict on what the world sees of it.
//
// It is pure: it asks nobody and serves nothing. What is seen of a domain is handed in.
package publish

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/stsrelay/stsrelay/sts"
)

// Path is where a policy is served on its policy host (RFC 8461, 3.3).
const Path = "/.well-known/mta-sts.txt"

// Domain is a domain and the policy that is published for it.
type Domain struct {
	// Name is in A-labels and lower case, without final dot.
	Name   string
	Policy *sts.Policy
	// Record is the name of the TXT record with the id that several domains share; each
	// of them has a CNAME to it. "": the domain has a TXT record of its own.
	Record string
	// RUA are the URIs that TLS reports about the domain go to (RFC 8460, 3); empty: the
	// record for them is somebody else's matter.
	RUA []string
}

// PolicyHost is the host that serves the policy of a domain (RFC 8461, 3.3).
func PolicyHost(domain string) string { return "mta-sts." + domain }

// Text is a policy as it is served, with CRLF at the end of each line (RFC 8461, 3.2).
func Text(p *sts.Policy) string { return strings.Join(p.Lines(), "\r\n") + "\r\n" }

// ID is the id of a policy's text, for the TXT record. It depends on nothing but the text:
// it is the same on every relay, and changes exactly when the text does. It is the first
// 20 characters of BASE32(SHA-256(text)), which are letters and digits (RFC 8461, 3.1).
func ID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base32.StdEncoding.EncodeToString(sum[:])[:20]
}

// Withdrawn is the policy that is served for a domain that is given up, while senders may
// still hold an older one (RFC 8461, 8.3). Its max_age is a day, so that nobody keeps it
// for long.
func Withdrawn() *sts.Policy {
	return &sts.Policy{Mode: sts.ModeNone, MaxAge: withdrawnAge}
}
