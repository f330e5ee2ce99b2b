package testnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// TLSReport is a TLS report as ReadTLSReport has read it.
type TLSReport struct {
	Organization *string `json:"organization-name"`
	DateRange    *struct {
		Start *string `json:"start-datetime"`
		End   *string `json:"end-datetime"`
	} `json:"date-range"`
	Contact  *string         `json:"contact-info"`
	ID       *string         `json:"report-id"`
	Policies []*TLSRPTPolicy `json:"policies"`
}

// TLSRPTPolicy is one policy of a report.
type TLSRPTPolicy struct {
	Policy *struct {
		Type    *string  `json:"policy-type"`
		Strings []string `json:"policy-string"`
		Domain  *string  `json:"policy-domain"`
		MXHosts []string `json:"mx-host"`
	} `json:"policy"`
	Summary *struct {
		Successful *uint64 `json:"total-successful-session-count"`
		Failed     *uint64 `json:"total-failure-session-count"`
	} `json:"summary"`
	Details []*TLSRPTDetail `json:"failure-details"`
}

// TLSRPTDetail is one kind of failure.
type TLSRPTDetail struct {
	Type      *string `json:"result-type"`
	SendingIP *string `json:"sending-mta-ip"`
	MXHost    *string `json:"receiving-mx-hostname"`
	MXHelo    *string `json:"receiving-mx-helo"`
	MXIP      *string `json:"receiving-ip"`
	Count     *uint64 `json:"failed-session-count"`
	Info      *string `json:"additional-information"`
	Code      *string `json:"failure-reason-code"`
}

// resultTypes are all that RFC 8460, 4.3 knows.
var resultTypes = []string{
	"starttls-not-supported", "certificate-host-mismatch", "certificate-not-trusted", "certificate-expired", "validation-failure",
	"tlsa-invalid", "dnssec-invalid", "dane-required", "sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid",
}

// ReadTLSReport reads a report as strictly as RFC 8460, section 4 and appendix B
// and RFC 7493 (I-JSON) allow: every member that must be there, none that is
// not known, none twice, no value that makes no sense, and sums that fit.
func ReadTLSReport(data []byte) (*TLSReport, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	if err := noDuplicates(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return nil, err
	}
	var r TLSReport
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind it")
	}
	return &r, r.check()
}

func (r *TLSReport) check() error {
	if err := texts("report", r.Organization, r.Contact, r.ID); err != nil {
		return err
	}
	if !strings.Contains(*r.Contact, "@") {
		return fmt.Errorf("contact-info %q is no address", *r.Contact)
	}
	if r.DateRange == nil || r.DateRange.Start == nil || r.DateRange.End == nil {
		return errors.New("the date-range is not whole")
	}
	start, err := time.Parse("2006-01-02T15:04:05Z", *r.DateRange.Start)
	if err != nil || !start.Equal(start.Truncate(24*time.Hour)) {
		return fmt.Errorf("start-datetime %q", *r.DateRange.Start)
	}
	if end := start.Add(24*time.Hour - time.Second).Format("2006-01-02T15:04:05Z"); *r.DateRange.End != end {
		return fmt.Errorf("end-datetime %q, not %q", *r.DateRange.End, end)
	}
	if len(r.Policies) == 0 {
		return errors.New("there are no policies")
	}
	for i, p := range r.Policies {
		if err := p.check(); err != nil {
			return fmt.Errorf("policies[%d]: %w", i, err)
		}
	}
	return nil
}

func (p *TLSRPTPolicy) check() error {
	if p == nil || p.Policy == nil || p.Summary == nil || p.Summary.Successful == nil || p.Summary.Failed == nil {
		return errors.New("it is not whole")
	}
	if err := texts("policy", p.Policy.Type, p.Policy.Domain); err != nil {
		return err
	}
	if strings.ContainsFunc(*p.Policy.Domain, func(r rune) bool { return r >= 0x80 || r >= 'A' && r <= 'Z' }) {
		return fmt.Errorf("policy-domain %q is not in A-labels", *p.Policy.Domain)
	}
	switch *p.Policy.Type {
	case "sts":
		if slices.ContainsFunc(p.Policy.Strings, func(s string) bool { return strings.ContainsAny(s, "\r\n") }) {
			return errors.New("a policy-string has several lines")
		}
	case "tlsa":
		if len(p.Policy.MXHosts) != 1 {
			return fmt.Errorf("tlsa for the hosts %q", p.Policy.MXHosts)
		}
	case "no-policy-found":
		if p.Policy.Strings != nil || p.Policy.MXHosts != nil {
			return errors.New("no policy, and yet it says something")
		}
	default:
		return fmt.Errorf("policy-type %q", *p.Policy.Type)
	}
	if *p.Summary.Failed+*p.Summary.Successful == 0 {
		return errors.New("it counts nothing")
	}
	if p.Details != nil && len(p.Details) == 0 {
		return errors.New("failure-details is there and empty")
	}
	sum := uint64(0)
	for i, d := range p.Details {
		if err := d.check(); err != nil {
			return fmt.Errorf("failure-details[%d]: %w", i, err)
		}
		sum += *d.Count
	}
	if sum != *p.Summary.Failed {
		return fmt.Errorf("%d sessions failed, and the details have %d", *p.Summary.Failed, sum)
	}
	return nil
}

func (d *TLSRPTDetail) check() error {
	if d == nil || d.Type == nil || d.Count == nil || *d.Count == 0 {
		return errors.New("it is not whole")
	}
	if !slices.Contains(resultTypes, *d.Type) {
		return fmt.Errorf("result-type %q", *d.Type)
	}
	for _, s := range []*string{d.SendingIP, d.MXHost, d.MXHelo, d.MXIP, d.Info, d.Code} {
		if s != nil && *s == "" {
			return errors.New("an empty text")
		}
	}
	for _, s := range []*string{d.SendingIP, d.MXIP} {
		if s == nil {
			continue
		}
		if a, err := netip.ParseAddr(*s); err != nil || a.String() != *s { // RFC 5952
			return fmt.Errorf("%q is no address in its usual form", *s)
		}
	}
	return nil
}

func texts(what string, values ...*string) error {
	for _, v := range values {
		if v == nil || *v == "" {
			return fmt.Errorf("a text of the %s is missing or empty", what)
		}
	}
	return nil
}

// noDuplicates walks one value.
func noDuplicates(d *json.Decoder) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := make(map[string]bool)
	for d.More() {
		if delim == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			n, _ := name.(string)
			if seen[n] {
				return fmt.Errorf("%q stands twice", n)
			}
			seen[n] = true
		}
		if err := noDuplicates(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
