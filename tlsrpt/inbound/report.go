// Package inbound reads TLS reports that others send (RFC 8460, 4.4): plain JSON,
// gzip, zip, mail with the report as a part, mbox files. It is pure: it reads from an
// io.Reader, and neither stores nor looks up anything.
//
// Senders differ in what they leave out and how they write it, so the reader takes
// every shape that can be understood, and says in Report.Oddities what was unusual. It
// is strict about size alone: a report is a stranger's file, and may be made to fill
// the memory.
package inbound

import (
	"errors"
	"slices"
	"time"
)

// Report is what a report says. Texts are those of the sender, shortened to 300
// characters.
type Report struct {
	// Organization is organization-name, or the submitter's domain where that is missing.
	Organization string `json:"organization"`
	// ID is report-id without angle brackets; "" where the sender gives none.
	ID      string `json:"report_id"`
	Contact string `json:"contact,omitempty"`
	// Domain is the policy domain of the report as a whole: the mail's
	// TLS-Report-Domain, or else that of the file name or of the first policy.
	Domain string `json:"domain"`
	// Start and End are the time that is reported; zero where it is missing or cannot be
	// read.
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Policies []Policy  `json:"policies"`
	// Omitted sums the policies beyond MaxPolicies.
	Omitted Omitted `json:"omitted,omitzero"`
	// Oddities are the deviations from RFC 8460 that were seen, each once, in the order of
	// the file.
	Oddities []string `json:"oddities,omitempty"`
}

// Policy has the counts of one policy.
type Policy struct {
	// Type is "sts", "tlsa" or "no-policy-found", or what the sender has written.
	Type string `json:"type"`
	// Domain is policy-domain, or the report's where it is missing.
	Domain string `json:"domain"`
	// Strings are the lines of the policy, MXHosts its patterns.
	Strings []string `json:"policy,omitempty"`
	MXHosts []string `json:"mx,omitempty"`
	// Successful and Failed count sessions.
	Successful int64    `json:"successful"`
	Failed     int64    `json:"failed"`
	Details    []Detail `json:"failures,omitempty"`
}

// Detail is one kind of failure.
type Detail struct {
	// ResultType is one of RFC 8460, 4.3, or what the sender has written.
	ResultType  string `json:"type"`
	SendingIP   string `json:"sending_ip,omitempty"`
	MXHost      string `json:"mx,omitempty"`
	MXHelo      string `json:"helo,omitempty"`
	ReceivingIP string `json:"receiving_ip,omitempty"`
	// Sessions counts the sessions that failed so.
	Sessions int64 `json:"sessions"`
	// Reason is failure-reason-code, Information additional-information.
	Reason      string `json:"reason,omitempty"`
	Information string `json:"information,omitempty"`
}

// Omitted sums policies that are not kept.
type Omitted struct {
	Policies   int   `json:"policies"`
	Successful int64 `json:"successful"`
	Failed     int64 `json:"failed"`
}

// The bounds of a report. What is beyond the first three is summed and not lost.
const (
	// MaxPolicies is the number of policies that are kept.
	MaxPolicies = 1000
	// MaxDetails is the number of failure details that are kept of one policy, and
	// maxAllDetails of a report.
	MaxDetails    = 1000
	maxAllDetails = 10_000
	// MaxSize is the size of a report after decompression, in octets; of a mail that of
	// everything in it.
	MaxSize = 32 << 20
	// maxText is the length of a text that is kept, in octets; maxTexts the number of
	// lines or patterns of one policy.
	maxText, maxTexts = 300, 100
	// maxOddities is the number of oddities that are kept.
	maxOddities = 30
)

// ErrTooLarge is the error about a report that is larger than MaxSize, or whose form
// would need too much memory.
var ErrTooLarge = errors.New("the report is too large")

// ErrNoReport is the error about something that is no TLS report.
var ErrNoReport = errors.New("there is no TLS report in it")

// odd notes a deviation.
func (r *Report) odd(what string) {
	if len(r.Oddities) < maxOddities && !slices.Contains(r.Oddities, what) {
		r.Oddities = append(r.Oddities, what)
	}
}

// Sessions returns the sessions of all policies, those that are not kept too.
func (r *Report) Sessions() (successful, failed int64) {
	successful, failed = r.Omitted.Successful, r.Omitted.Failed
	for i := range r.Policies {
		successful, failed = Sum(successful, r.Policies[i].Successful), Sum(failed, r.Policies[i].Failed)
	}
	return successful, failed
}

// maxCount bounds counts, so that sums of strangers' numbers cannot overflow: 69 billion
// sessions are more than any domain has in a day, and 100 million such counts can be added.
const maxCount = 1 << 36

// Sum adds two counts, at most maxCount.
func Sum(a, b int64) int64 { return min(a+b, maxCount) }
