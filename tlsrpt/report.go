package tlsrpt

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Report is a report as it is sent (RFC 8460, 4.4). Its JSON is I-JSON (RFC
// 7493).
type Report struct {
	OrganizationName string         `json:"organization-name"`
	DateRange        DateRange      `json:"date-range"`
	ContactInfo      string         `json:"contact-info"`
	ReportID         string         `json:"report-id"`
	Policies         []ReportPolicy `json:"policies"`
}

// DateRange is a whole day.
type DateRange struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

// ReportPolicy has the counts of one policy.
type ReportPolicy struct {
	Policy  ReportedPolicy  `json:"policy"`
	Summary Summary         `json:"summary"`
	Details []FailureDetail `json:"failure-details,omitempty"`
}

// ReportedPolicy is the policy that was applied.
type ReportedPolicy struct {
	Type    PolicyType `json:"policy-type"`
	Strings []string   `json:"policy-string,omitempty"`
	Domain  string     `json:"policy-domain"`
	// MXHosts is an array: a policy has several patterns.
	MXHosts []string `json:"mx-host,omitempty"`
}

// Summary counts sessions.
type Summary struct {
	Successful int64 `json:"total-successful-session-count"`
	Failed     int64 `json:"total-failure-session-count"`
}

// FailureDetail is one kind of failure; unknown fields are left out.
type FailureDetail struct {
	ResultType          ResultType `json:"result-type"`
	SendingMTAIP        string     `json:"sending-mta-ip,omitempty"`
	ReceivingMXHostname string     `json:"receiving-mx-hostname,omitempty"`
	ReceivingMXHelo     string     `json:"receiving-mx-helo,omitempty"`
	ReceivingIP         string     `json:"receiving-ip,omitempty"`
	FailedSessionCount  int64      `json:"failed-session-count"`
	FailureReasonCode   string     `json:"failure-reason-code,omitempty"`
}

// Identity is the sender of reports.
type Identity struct {
	Organization string
	// Contact is a mail address for the receivers' questions.
	Contact string
	// Sender is the mail address that reports come from.
	Sender string
}

// Submitter is the domain that submits the reports (RFC 8460, 5.3).
func (i Identity) Submitter() string { return domainOf(i.Contact) }

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// newReport makes a report without policies.
func (i Identity) newReport(day, id string) (*Report, error) {
	start, err := ParseDay(day)
	if err != nil {
		return nil, err
	}
	return &Report{
		OrganizationName: iJSON(i.Organization),
		DateRange:        DateRange{Start: start, End: start.Add(24*time.Hour - time.Second)},
		ContactInfo:      i.Contact,
		ReportID:         id,
		Policies:         []ReportPolicy{},
	}, nil
}

func newPolicy(domain string, c *Counts) ReportPolicy {
	p := ReportPolicy{
		Policy:  ReportedPolicy{Type: c.Policy.Type, Strings: iJSONAll(c.Policy.Strings), Domain: domain, MXHosts: iJSONAll(c.Policy.MXHosts)},
		Summary: Summary{Successful: c.Successes, Failed: c.Failed()},
	}
	for _, f := range c.Failures {
		p.Details = append(p.Details, FailureDetail{
			ResultType: f.Type, SendingMTAIP: f.SendingIP, ReceivingMXHostname: iJSON(f.MXHost), ReceivingMXHelo: iJSON(f.MXHelo),
			ReceivingIP: f.MXIP, FailedSessionCount: f.Count, FailureReasonCode: iJSON(f.Code),
		})
	}
	return p
}

// write writes one report as JSON, policy by policy, so that a large report needs no
// more memory. It returns the summary.
func (i Identity) write(w io.Writer, s store.Store, k reportKey, id string) (*summary, error) {
	r, err := i.newReport(k.Day, id)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	head, tail := head[:len(head)-len("]}")], "]}"
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	d := newSummary(r)
	var failed error
	err = readPolicies(s, countsPrefix(k.Day, k.Domain, generationName(k.Generation)), func(_ reportKey, c *Counts) bool {
		d.add(c)
		var data []byte
		if data, failed = json.Marshal(newPolicy(k.Domain, c)); failed != nil {
			return false
		}
		if d.policies > 1 {
			data = append([]byte{','}, data...)
		}
		_, failed = w.Write(data)
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil {
		_, err = io.WriteString(w, tail)
	}
	return d, err
}

// fileName is the name of a compressed report (RFC 8460, 5.1).
func fileName(submitter string, r *Report, domain, unique string) string {
	return fmt.Sprintf("%s!%s!%d!%d!%s.json.gz", submitter, domain, r.DateRange.Start.Unix(), r.DateRange.End.Unix(), unique)
}
