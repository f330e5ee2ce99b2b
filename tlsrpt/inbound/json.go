package inbound

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// maxToken is the length of one JSON value that is no array or object, with the white
	// space before it. The decoder holds it in memory as a whole.
	maxToken = 256 << 10
	// maxDepth is how deep arrays and objects may lie in each other.
	maxDepth = 32
)

// parser reads one report, value by value.
type parser struct {
	dec     *json.Decoder
	report  *Report
	depth   int
	details int  // that are kept
	known   bool // a field of a report was seen
}

// tokenReader refuses input while a value is longer than maxToken.
type tokenReader struct {
	from  io.Reader
	dec   *json.Decoder
	given int64
}

// Read implements io.Reader.
func (t *tokenReader) Read(b []byte) (int, error) {
	if t.given-t.dec.InputOffset() > maxToken {
		return 0, fmt.Errorf("%w: a value in it has more than %d octets", ErrTooLarge, maxToken)
	}
	n, err := t.from.Read(b)
	t.given += int64(n)
	return n, err
}

// readJSON reads one report. The caller bounds the size of r.
func readJSON(r io.Reader) (*Report, error) {
	source := &tokenReader{from: r}
	p := &parser{dec: json.NewDecoder(source), report: &Report{}}
	source.dec = p.dec
	p.dec.UseNumber()
	err := p.object(p.top)
	switch {
	case !p.known && !errors.Is(err, ErrTooLarge): // it only begins like JSON, or is other JSON
		return nil, ErrNoReport
	case err != nil:
		return nil, err
	}
	p.complete()
	return p.report, nil
}

// complete fills in what the fields say together.
func (p *parser) complete() {
	r := p.report
	if r.ID == "" {
		r.odd("no report-id")
	}
	if r.Organization == "" {
		r.odd("no organization-name")
	}
	if r.Start.IsZero() || r.End.IsZero() {
		r.odd("no date-range that can be read")
	}
	if len(r.Policies) == 0 {
		r.odd("no policies")
	}
	if span := r.End.Sub(r.Start); !r.Start.IsZero() && span == 24*time.Hour {
		r.odd("the end of the day is the next midnight")
	}
}

func (p *parser) top(key string) error {
	r := p.report
	switch key {
	case "organization-name", "report-id", "policies", "date-range":
		p.known = true
	}
	switch key {
	case "organization-name":
		return p.text(&r.Organization)
	case "contact-info":
		return p.text(&r.Contact)
	case "report-id":
		err := p.text(&r.ID)
		r.ID = strings.TrimSpace(r.ID)
		if id := strings.TrimSuffix(strings.TrimPrefix(r.ID, "<"), ">"); id != r.ID {
			r.ID = id
			r.odd("report-id in angle brackets")
		}
		return err
	case "date-range":
		return p.object(p.dateRange)
	case "policies":
		return p.list(func() error {
			var policy Policy
			if err := p.object(func(key string) error { return p.policy(&policy, key) }); err != nil {
				return err
			}
			p.keep(policy)
			return nil
		})
	}
	return p.skip()
}

// keep adds a policy, or its sums where there are too many.
func (p *parser) keep(policy Policy) {
	r := p.report
	var failed int64
	for i := range policy.Details {
		failed = Sum(failed, policy.Details[i].Sessions)
	}
	if failed > policy.Failed {
		r.odd("failure-details count more sessions than the summary")
		policy.Failed = failed
	}
	if policy.Domain == "" {
		r.odd("no policy-domain")
	}
	if len(r.Policies) < MaxPolicies {
		r.Policies = append(r.Policies, policy)
		return
	}
	p.details -= len(policy.Details)
	r.odd("more policies than are kept")
	r.Omitted.Policies++
	r.Omitted.Successful, r.Omitted.Failed = Sum(r.Omitted.Successful, policy.Successful), Sum(r.Omitted.Failed, policy.Failed)
}

func (p *parser) dateRange(key string) error {
	var text string
	switch key {
	case "start-datetime":
		err := p.text(&text)
		p.report.Start = readTime(text)
		return err
	case "end-datetime":
		err := p.text(&text)
		p.report.End = readTime(text)
		return err
	}
	return p.skip()
}

// readTime reads a time in the forms that senders use; zero for others.
func readTime(text string) time.Time {
	text = strings.TrimSpace(text)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 && n < 1<<33 {
		return time.Unix(n, 0).UTC()
	}
	return time.Time{}
}

func (p *parser) policy(policy *Policy, key string) error {
	switch key {
	case "policy":
		return p.object(func(key string) error {
			switch key {
			case "policy-type":
				return p.text(&policy.Type)
			case "policy-domain":
				err := p.text(&policy.Domain)
				policy.Domain = domainName(policy.Domain)
				return err
			case "policy-string":
				return p.texts(&policy.Strings, "policy-string is one text and no array")
			case "mx-host", "mx-host-pattern":
				return p.texts(&policy.MXHosts, "mx-host is one text and no array")
			}
			return p.skip()
		})
	case "summary":
		return p.object(func(key string) error {
			switch key {
			case "total-successful-session-count":
				return p.count(&policy.Successful)
			case "total-failure-session-count":
				return p.count(&policy.Failed)
			}
			return p.skip()
		})
	case "failure-details":
		n := 0
		err := p.list(func() error { n++; return p.detail(policy) })
		if n == 0 {
			p.report.odd("empty failure-details")
		}
		return err
	}
	return p.skip()
}

// detail reads one entry of failure-details.
func (p *parser) detail(policy *Policy) error {
	var d Detail
	fields := map[string]*string{
		"result-type": &d.ResultType, "sending-mta-ip": &d.SendingIP, "receiving-mx-hostname": &d.MXHost, "receiving-mx-helo": &d.MXHelo,
		"receiving-ip": &d.ReceivingIP, "failure-reason-code": &d.Reason, "additional-information": &d.Information,
	}
	err := p.object(func(key string) error {
		switch field := fields[key]; {
		case key == "failed-session-count":
			return p.count(&d.Sessions)
		case field != nil:
			return p.text(field)
		}
		return p.skip()
	})
	if err != nil {
		return err
	}
	d.MXHost = domainName(d.MXHost)
	d.ResultType = strings.ToLower(strings.TrimSpace(d.ResultType))
	for _, f := range []struct{ name, value string }{{"result-type", d.ResultType}, {"sending-mta-ip", d.SendingIP}, {"receiving-mx-hostname", d.MXHost}} {
		if f.value == "" {
			p.report.odd("no " + f.name)
		}
	}
	if len(policy.Details) < MaxDetails && p.details < maxAllDetails {
		policy.Details = append(policy.Details, d)
		p.details++
		return nil
	}
	p.report.odd("more failure-details than are kept")
	addRest(policy, d)
	return nil
}

// maxRest is the number of result types by which details beyond the bound are summed.
const maxRest = 20

// addRest adds the sessions of a detail that is not kept to the entry of its result
// type, which names nothing else.
func addRest(policy *Policy, d Detail) {
	rest := 0
	for i := range policy.Details {
		have := &policy.Details[i]
		if have.MXHost != "" || have.SendingIP != "" || have.ReceivingIP != "" || have.Reason != "" {
			continue
		}
		if rest++; have.ResultType == d.ResultType || rest >= maxRest {
			have.Sessions = Sum(have.Sessions, d.Sessions)
			return
		}
	}
	policy.Details = append(policy.Details, Detail{ResultType: d.ResultType, Sessions: d.Sessions})
}

// domainName returns a domain name as it is compared: lower case, no dot at its end.
func domainName(s string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), ".")
}

// text reads a value that should be a text.
func (p *parser) text(into *string) error {
	t, err := p.dec.Token()
	if err != nil {
		return p.fail(err)
	}
	switch v := t.(type) {
	case string:
		if v == "" {
			p.report.odd("an empty text")
		}
		*into = short(v)
	case json.Number:
		p.report.odd("a number in place of a text")
		*into = short(v.String())
	case nil:
		p.report.odd("null in place of a text")
	case json.Delim:
		p.report.odd("a list in place of a text")
		return p.skipRest()
	}
	return nil
}

// short returns a text that does not keep the memory of a longer one: one line of UTF-8. A
// header may be in another character set, and a line end would forge lines of what is shown.
func short(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.Clone(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r // strings.Map reads what is no UTF-8 as U+FFFD
	}, s))
}

// texts reads an array of texts, or one text; that is said as single.
func (p *parser) texts(into *[]string, single string) error {
	t, err := p.dec.Token()
	if err != nil {
		return p.fail(err)
	}
	switch v := t.(type) {
	case string:
		p.report.odd(single)
		for line := range strings.Lines(v) {
			if line = strings.TrimSpace(line); line != "" && len(*into) < maxTexts {
				*into = append(*into, short(line))
			}
		}
	case json.Delim:
		if v != '[' {
			p.report.odd("an object in place of a list")
			return p.skipRest()
		}
		return p.elements(func() error {
			var s string
			err := p.text(&s)
			if s != "" && len(*into) < maxTexts {
				*into = append(*into, s)
			}
			return err
		})
	}
	return nil
}

// count reads a number of sessions.
func (p *parser) count(into *int64) error {
	t, err := p.dec.Token()
	if err != nil {
		return p.fail(err)
	}
	text := ""
	switch v := t.(type) {
	case json.Number:
		text = v.String()
	case string:
		p.report.odd("a count as text")
		text = strings.TrimSpace(v)
	case json.Delim:
		p.report.odd("a list in place of a count")
		return p.skipRest()
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || math.IsNaN(n) || n > maxCount {
		p.report.odd("a count that is no number of sessions")
		n = max(0, min(n, maxCount))
		if math.IsNaN(n) {
			n = 0
		}
	}
	*into = Sum(*into, int64(n))
	return nil
}

// object reads an object: field is called with each key and must read its value. A
// value of another kind is skipped.
func (p *parser) object(field func(key string) error) error {
	t, err := p.dec.Token()
	if err != nil {
		return p.fail(err)
	}
	d, ok := t.(json.Delim)
	switch {
	case !ok:
		p.report.odd("no object where one belongs")
		return nil
	case d != '{':
		p.report.odd("no object where one belongs")
		return p.skipRest()
	}
	if err := p.enter(); err != nil {
		return err
	}
	defer func() { p.depth-- }()
	for p.dec.More() {
		key, err := p.dec.Token()
		if err != nil {
			return p.fail(err)
		}
		name, _ := key.(string)
		if err := field(name); err != nil {
			return err
		}
	}
	_, err = p.dec.Token()
	return p.fail(err)
}

// list reads an array: element is called for each value and must read it. A value of
// another kind is skipped, and null is an empty list.
func (p *parser) list(element func() error) error {
	t, err := p.dec.Token()
	if err != nil {
		return p.fail(err)
	}
	d, ok := t.(json.Delim)
	switch {
	case !ok:
		return nil
	case d != '[':
		p.report.odd("an object in place of a list")
		return p.skipRest()
	}
	return p.elements(element)
}

// elements reads an array behind its bracket.
func (p *parser) elements(element func() error) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer func() { p.depth-- }()
	for p.dec.More() {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := p.dec.Token()
	return p.fail(err)
}

func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return errDepth()
	}
	return nil
}

func errDepth() error {
	return fmt.Errorf("%w: it is nested more than %d levels deep", ErrTooLarge, maxDepth)
}

// skip skips a value.
func (p *parser) skip() error {
	t, err := p.dec.Token()
	if err != nil {
		return p.fail(err)
	}
	if _, ok := t.(json.Delim); ok {
		return p.skipRest()
	}
	return nil
}

// skipRest skips the rest of an array or object whose first bracket was read.
func (p *parser) skipRest() error {
	for depth := 1; depth > 0; {
		t, err := p.dec.Token()
		if err != nil {
			return p.fail(err)
		}
		switch t {
		case json.Delim('['), json.Delim('{'):
			if depth++; p.depth+depth > maxDepth {
				return errDepth()
			}
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
	}
	return nil
}

// fail explains an error of the decoder.
func (p *parser) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("JSON at octet %d: %w", p.dec.InputOffset(), err)
	}
	return nil
}
