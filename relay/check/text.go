package check

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/internal/human"
)

// width is the length of lines of prose, in characters.
const width = 100

// shownLines is how many lines of a policy are shown.
const shownLines = 40

// Style is how a report is written for people. The zero value is for programs that read it.
type Style struct {
	Colour bool
	// OutcomeFirst puts the outcome at the top, not at the end.
	OutcomeFirst bool
}

// Text writes a report for people.
func (r *Report) Text(w io.Writer, s Style) error {
	t := &text{colour: s.Colour}
	t.line("%s  checked %s", t.paint(bold, r.Domain), r.At.Format(time.DateTime)+" UTC")
	if s.OutcomeFirst {
		t.outcome(&r.Outcome)
	}
	t.report(r)
	if !s.OutcomeFirst {
		t.outcome(&r.Outcome)
	}
	_, err := io.WriteString(w, t.b.String())
	return err
}

// Mark is the word that an outcome begins with.
func Mark(deliverable, colour bool) string {
	t := &text{colour: colour}
	if deliverable {
		return t.paint(green, "ok  ")
	}
	return t.paint(red, "FAIL")
}

// text builds the page.
type text struct {
	b      strings.Builder
	colour bool
}

// The colours of marks.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	faint  = "\x1b[2m"
	plain  = "\x1b[0m"
)

func (t *text) paint(colour, s string) string {
	if !t.colour {
		return s
	}
	return colour + s + plain
}

func (t *text) line(format string, args ...any) {
	t.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// head begins a section.
func (t *text) head(title, detail string) {
	t.b.WriteByte('\n')
	if detail != "" {
		detail = "  " + detail
	}
	t.line("%s%s", t.paint(bold, title), detail)
}

// mark writes a line that begins with "ok", "FAIL", "warn" or "note".
func (t *text) mark(kind, s string) {
	t.wrap("  "+t.paint(map[string]string{"ok": green, "FAIL": red, "warn": yellow, "note": faint}[kind], fmt.Sprintf("%-4s", kind))+"  ", "        ", s)
}

// wrap breaks prose into lines. Every line but the first begins with indent.
func (t *text) wrap(first, indent, s string) {
	room := width - utf8.RuneCountInString(indent)
	line := ""
	flush := func() {
		t.line("%s%s", first, line)
		first, line = indent, ""
	}
	for word := range strings.FieldsSeq(s) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > room {
			flush()
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	flush()
}

// severityWords are the marks of problems.
var severityWords = map[Severity]string{Fault: "FAIL", Warning: "warn", Note: "note"}

func (t *text) problems(list []Problem) {
	for _, p := range list {
		t.mark(severityWords[p.Severity], p.Text.String())
		t.wrap("        "+t.paint(faint, "rule")+"  ", "              ", p.Rule)
		t.wrap("        "+t.paint(faint, "mend")+"  ", "              ", p.Remedy.String())
	}
}

func (t *text) report(r *Report) {
	if r.Rule != nil {
		t.rule(r.Rule)
	}
	t.mx(r)
	t.record(r.Record)
	if r.PolicyHost != nil {
		t.policyHost(r.PolicyHost)
	}
	if r.Policy != nil {
		t.policy(r.Policy)
	}
	if r.Cached != nil {
		t.cached(r.Cached, r.At)
	}
	for i := range r.Hosts {
		t.host(&r.Hosts[i])
	}
	if r.TLSRPT != nil {
		t.tlsrpt(r.TLSRPT)
	}
	if p := r.Published; p != nil {
		t.published(p)
	}
	if w := r.Waiting; w != nil {
		t.waiting(w, r.At)
	}
	if f := r.Fallback; f != nil {
		t.line("")
		t.line("%s", t.paint(bold, "The fallback route"))
		t.mx(f)
		if f.Policy != nil {
			t.policy(f.Policy)
		}
		for i := range f.Hosts {
			t.host(&f.Hosts[i])
		}
	}
}

func (t *text) outcome(o *Outcome) {
	t.head("Outcome", "")
	kind := "FAIL"
	if o.Deliverable {
		kind = "ok"
	}
	t.mark(kind, o.Text.String())
}

func (t *text) rule(r *OperatorRule) {
	t.head("Rule of this relay", "[[domain]] "+r.Name)
	if r.TLS != "" {
		t.line("  tls = %q", r.TLS)
	}
	if r.Route != "" {
		t.line("  route = %q", r.Route)
	}
	if r.Fallback != "" {
		t.line("  fallback = %q", r.Fallback)
	}
	if r.MX {
		t.line("  mx = true")
	}
	if r.Override {
		t.line("  override_policy = true")
	}
	t.problems(r.Problems)
}

func (t *text) mx(r *Report) {
	t.head("Mail hosts", "")
	for _, h := range r.Hosts {
		switch r.MX.From {
		case "mx":
			t.line("  MX %d %s", h.Preference, h.Name)
		case "address":
			t.line("  %s itself", h.Name)
		case "route":
			t.line("  %s, port %d, by the operator's route", h.Name, h.Port)
		default:
			t.line("  %s", h.Name)
		}
	}
	if r.MX.CNAME != "" {
		t.line("  the domain is an alias of %s", r.MX.CNAME)
	}
	if r.MX.Secure && r.MX.From != "route" {
		t.line("  validated by DNSSEC")
	}
	t.problems(r.MX.Problems)
}

func (t *text) record(r *Record) {
	if r == nil {
		return
	}
	t.head("MTA-STS record", r.Name)
	t.txt(r.TXT, r.CNAME)
	if r.ID != "" {
		t.mark("ok", "id "+r.ID)
	} else if len(r.Problems) == 0 {
		t.line("  none: the domain has no MTA-STS")
	}
	t.problems(r.Problems)
}

func (t *text) txt(records []string, cname string) {
	for _, s := range records {
		t.line("  \"%s\"", s)
	}
	if cname != "" {
		t.line("  by an alias of %s", cname)
	}
}

func (t *text) policyHost(p *PolicyHost) {
	t.head("Policy host", p.URL)
	var parts []string
	switch {
	case p.Address != "":
		parts = append(parts, p.Address)
	case len(p.Addrs) > 0:
		parts = append(parts, strings.Join(p.Addrs, ", "))
	}
	if p.TLS != "" {
		parts = append(parts, p.TLS)
	}
	if p.Status != 0 {
		parts = append(parts, fmt.Sprintf("HTTP status %d", p.Status))
	}
	if p.ContentType != "" {
		parts = append(parts, p.ContentType)
	}
	if p.ContentEncoding != "" {
		parts = append(parts, "compressed by "+p.ContentEncoding)
	}
	if len(parts) > 0 {
		t.line("  %s", strings.Join(parts, ", "))
	}
	if p.Location != "" {
		t.line("  redirects to %s", p.Location)
	}
	t.certificate(p.Certificate, "  ")
	t.problems(p.Problems)
}

func (t *text) policy(p *Policy) {
	t.head("Policy", "")
	for i, l := range p.Lines {
		if i == shownLines {
			break
		}
		t.line("  | %s", l)
	}
	if n := p.MoreLines + max(0, len(p.Lines)-shownLines); n > 0 {
		t.line("  | (%d more lines)", n)
	}
	if p.Valid {
		kind, force := "ok", "in force"
		if !p.InForce {
			kind, force = "note", "not in force"
		}
		t.mark(kind, fmt.Sprintf("mode %s, kept for %s, %s", p.Mode, age(time.Duration(p.MaxAge)*time.Second), force))
	}
	t.problems(p.Problems)
}

func age(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 || d >= 2*day {
		return human.Plural(int(d/day), "day")
	}
	return human.Span(d)
}

func (t *text) cached(c *Cached, now time.Time) {
	t.head("In the cache of the running relay", "")
	switch {
	case c.Mode == "":
		t.line("  no policy")
	case c.ExpiresAt != nil && c.ExpiresAt.Before(now):
		t.line("  mode %s, id %s, ended %s; it is not applied", c.Mode, c.ID, c.ExpiresAt.UTC().Format(time.DateTime))
	default:
		state := "it is in force until then, unless the domain announces a newer one that can be had"
		if !c.InForce {
			state = "not in force any more: the next delivery takes over what is published now"
		}
		t.wrap("  ", "  ", fmt.Sprintf("mode %s, id %s, mx %s, until %s UTC; %s", c.Mode, c.ID, strings.Join(c.MX, ", "), c.ExpiresAt.UTC().Format(time.DateTime), state))
	}
	if c.LastError != "" {
		t.wrap("  ", "  ", "the last fetch failed: "+c.LastError)
	}
}

func (t *text) host(h *Host) {
	detail := ""
	if h.Pattern != "" {
		detail = "named by the policy's mx " + h.Pattern
	}
	t.head("Host "+h.Name, detail)
	if h.CNAME != "" {
		t.line("  an alias of %s", h.CNAME)
	}
	if h.TLSA != nil {
		for _, r := range h.TLSA.Records {
			t.line("  TLSA %s", shortTLSA(r))
		}
		if h.TLSA.Applies {
			t.line("  at %s, validated by DNSSEC, %d usable", h.TLSA.Name, h.TLSA.Usable)
		}
	}
	t.problems(h.Problems)
	for i := range h.Sessions {
		t.session(&h.Sessions[i])
	}
	for _, r := range h.PublishTLSA {
		t.line("  publish  %s", r)
	}
}

// shortTLSA leaves out the middle of long data.
func shortTLSA(s string) string {
	if len(s) <= 80 {
		return s
	}
	return s[:60] + "…" + s[len(s)-8:]
}

// shortMatch is usage, selector and matching type, "3 1 1".
func shortMatch(s string) string { return s[:min(len(s), 5)] }

func (t *text) session(s *Session) {
	t.wrap("  ["+s.Address+"]  ", "        ", s.Greeting)
	if s.TLS != "" {
		tail := ""
		if s.RequireTLS {
			tail = ", offers REQUIRETLS"
		}
		t.line("        %s%s", strings.Join(slices.DeleteFunc([]string{s.TLS, s.Cipher, s.Group}, func(v string) bool { return v == "" }), ", "), tail)
	}
	if len(s.Offers)+len(s.Refuses) > 0 {
		t.line("        %s", versions(s))
	}
	t.certificate(s.Certificate, "        ")
	for _, v := range s.Verdicts {
		if source := v.Source.String(); v.Met && source != "opportunistic TLS" {
			t.mark("ok", source+" is satisfied"+map[bool]string{true: ": the certificate matches TLSA " + shortMatch(s.TLSA)}[source == "DANE" && s.TLSA != ""])
		}
	}
	t.problems(s.Problems)
}

// versions says which versions of TLS the host takes.
func versions(s *Session) string {
	offers, refuses := strings.Join(s.Offers, ", "), strings.Join(s.Refuses, ", ")
	switch {
	case offers == "":
		return "refuses " + refuses
	case refuses == "":
		return "takes " + offers
	}
	return "takes " + offers + "; refuses " + refuses
}

func (t *text) certificate(c *Certificate, indent string) {
	if c == nil {
		return
	}
	names := "no DNS name, Common Name " + c.CommonName
	if n := len(c.Names); n > 0 {
		names = strings.Join(c.Names[:min(n, 3)], ", ") + more(n-3)
	}
	left := fmt.Sprintf("%d days left", c.DaysLeft)
	switch {
	case c.DaysLeft == 1:
		left = "1 day left"
	case c.DaysLeft < 0:
		left = "ended " + c.NotAfter.Format(time.DateOnly)
	}
	state := "trusted"
	if !c.Trusted {
		state = "not trusted"
	}
	if !c.Named {
		state += ", not for this name"
	}
	t.wrap(indent, indent, fmt.Sprintf("certificate for %s; %s; %s; %s", names, c.Key, left, state))
	for _, e := range c.Shown[:min(len(c.Shown), 5)] { // the chain, leaf first
		t.line("%s  %s, issued by %s, until %s", indent, cmp.Or(e.Subject, "no subject"), cmp.Or(e.Issuer, "nobody"), e.NotAfter.Format(time.DateOnly))
	}
}

func (t *text) tlsrpt(r *TLSRPT) {
	t.head("TLS reports", r.Name)
	t.txt(r.TXT, r.CNAME)
	if len(r.RUA) > 0 {
		t.mark("ok", "reports go to "+strings.Join(r.RUA, ", "))
	}
	t.problems(r.Problems)
}
