package tlsrpt

import (
	"fmt"
	"time"
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

// ReportPolicy is what was counted of one policy.
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
	MXHosts []string   `json:"mx-host,omitempty"`
}

// Summary counts sessions.
type Summary struct {
	Successful int64 `json:"total-successful-session-count"`
	Failed     int64 `json:"total-failure-session-count"`
}

// FailureDetail is one kind of failure; what is not known is left out.
type FailureDetail struct {
	ResultType          ResultType `json:"result-type"`
	SendingMTAIP        string     `json:"sending-mta-ip,omitempty"`
	ReceivingMXHostname string     `json:"receiving-mx-hostname,omitempty"`
	ReceivingMXHelo     string     `json:"receiving-mx-helo,omitempty"`
	ReceivingIP         string     `json:"receiving-ip,omitempty"`
	FailedSessionCount  int64      `json:"failed-session-count"`
	FailureReasonCode   string     `json:"failure-reason-code,omitempty"`
}

// Sender is in whose name reports are made.
type Sender struct {
	Organization string
	Contact      string // a mail address
}

// NewReport makes the report of one domain's day. id is unique for ever.
func (s Sender) NewReport(c DomainCounts, id string) (*Report, error) {
	day, err := time.ParseInLocation(DayFormat, c.Day, time.UTC)
	if err != nil {
		return nil, fmt.Errorf("the day %q is not a date such as 2026-11-23", c.Day)
	}
	r := &Report{
		OrganizationName: s.Organization,
		DateRange:        DateRange{Start: day, End: day.Add(24*time.Hour - time.Second)},
		ContactInfo:      s.Contact,
		ReportID:         id,
	}
	for i := range c.Policies {
		p := &c.Policies[i]
		rp := ReportPolicy{
			Policy:  ReportedPolicy{Type: p.Policy.Type, Strings: p.Policy.Strings, Domain: c.Domain, MXHosts: p.Policy.MXHosts},
			Summary: Summary{Successful: p.Successes, Failed: p.Failed()},
		}
		for _, f := range p.Failures {
			rp.Details = append(rp.Details, FailureDetail{
				ResultType: f.Type, SendingMTAIP: f.SendingIP, ReceivingMXHostname: f.MXHost, ReceivingMXHelo: f.MXHelo,
				ReceivingIP: f.MXIP, FailedSessionCount: f.Count, FailureReasonCode: f.Code,
			})
		}
		r.Policies = append(r.Policies, rp)
	}
	return r, nil
}
