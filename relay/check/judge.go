package check

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// requirement is what is asked of a host for a message that asks for nothing
// itself.
func (c *checker) requirement(h *host) *security.Requirement {
	req := &security.Requirement{
		Domain: c.policyDomain, Host: h.Name, Policy: c.policy.Policy, TLSA: h.set,
		RefusePlaintext: c.refusesPlaintext(), Level: c.level(), Names: c.pinnedNames(), Override: c.overridden(), MXSecure: c.report.MX.Secure,
		DomainAlias: c.report.MX.CNAME,
	}
	if req.Domain == "" {
		req.Domain = c.domain
	}
	return req
}

// judge compares what was asked with what was found, host by host.
func (c *checker) judge() {
	for _, h := range c.hosts {
		req := c.requirement(h)
		c.judgeName(h, req)
		for _, v := range h.visits {
			if v.open {
				c.judgeVisit(h, v, req)
			}
			h.Sessions = append(h.Sessions, v.Session)
		}
		if !h.left {
			c.report.Hosts = append(c.report.Hosts, h.Host)
		}
	}
	c.patterns()
	if c.mxDenial.Action == "" {
		return
	}
	// What a domain without mail leaves out is no fault of it.
	if c.report.TLSRPT = nil; c.report.Record != nil && len(c.report.Record.TXT) == 0 {
		c.report.Record = nil
	}
}

// judgeName holds the host's name against the policy: that in force, else that
// which would be if its owner mended the record.
func (c *checker) judgeName(h *host, req *security.Requirement) {
	h.Admitted = true
	published := *req
	if published.Policy == nil && c.fetched != nil {
		published.Policy = c.fetched.Policy
	}
	if published.Policy != nil {
		h.Pattern, _ = published.Policy.Match(h.Name)
	}
	if h.set != nil && len(h.set.Usable) > 0 && !req.HostAuthenticated() {
		h.Problems = append(h.Problems, Problem{Note, "DANE verifies the host, but nobody vouches for the MX records that name it: whoever forges them can name another host",
			"RFC 7672, 2.2.1", "the domain's owner: sign the domain's zone, or publish an MTA-STS policy in mode enforce"})
	}
	if refused, ok := errors.AsType[*security.Shortfall](req.Admits()); ok {
		h.Admitted, h.refused = false, refused
		h.Problems = append(h.Problems, problemOf(refused, Fault))
	}
	// The verdict on any session says that the policy does not name the host.
	for _, v := range published.Judge(&security.Evidence{Host: h.Name}, nil) {
		if s := v.Shortfall; s != nil && s.Code == security.CodeMXMismatch {
			h.Problems = add(h.Problems, problemOf(s, Warning))
		}
	}
}

func (c *checker) judgeVisit(h *host, v *visit, req *security.Requirement) {
	v.Usable = h.Admitted && !h.own && h.failed == "" && req.Satisfied(&v.evidence) == nil && c.logInRefused(v, req) == nil
	v.Worth = worth(req, &v.evidence)
	if h.set != nil {
		if rec, err := req.MatchTLSA(&v.evidence); err == nil {
			v.TLSA, v.endless = rec.String(), rec.Usage == dane.UsageEE
		}
	}
	for _, verdict := range req.Judge(&v.evidence, nil) {
		out := Verdict{Source: verdict.Source.String(), Binding: verdict.Binding, Met: verdict.Shortfall == nil}
		if s := verdict.Shortfall; s != nil {
			out.Type, out.Reason = string(s.Type), s.Text
			if s.Code != security.CodeMXMismatch && (h.refused == nil || s.Code != h.refused.Code) { // told of the host
				p := *s
				if !verdict.Binding && s.Source == security.MTASTS && v.TLSA != "" && req.Policy.Mode == sts.ModeEnforce && !c.overridden() {
					p.Text += "; DANE verifies it, so mail goes all the same, from those who know DANE"
				}
				v.addShortfall(&p, verdict.Binding)
			}
		}
		v.Verdicts = append(v.Verdicts, out)
	}
	if s := c.logInRefused(v, req); s != nil {
		p := problemOf(s, Fault)
		p.Text = "the relay has to log in here, and its password is not sent: " + p.Text
		v.Problems = append(v.Problems, p)
	}
	c.remark(h, v)
}

// logInRefused is why the relay, which has to log in, does not send its password
// over a session; nil where it does, or need not log in.
func (c *checker) logInRefused(v *visit, req *security.Requirement) *security.Shortfall {
	r := c.route()
	if r == nil || r.User == "" {
		return nil
	}
	s, _ := errors.AsType[*security.Shortfall](req.MaySendPassword(&v.evidence))
	return s
}

// addShortfall takes a shortfall up once, however many ask for the same; one
// that holds mail comes before one that does not.
func (v *visit) addShortfall(s *security.Shortfall, binding bool) {
	severity := Warning
	if binding {
		severity = Fault
	}
	p := problemOf(s, severity)
	for i := range v.Problems {
		if old := &v.Problems[i]; old.Text == p.Text {
			if binding && old.Severity != Fault {
				*old = p
			}
			return
		}
	}
	v.Problems = append(v.Problems, p)
}

// remark says what nobody asks for, and what is to come.
func (c *checker) remark(h *host, v *visit) {
	if v.Certificate == nil {
		return
	}
	verified := security.Requirement{Domain: c.policyDomain, Host: h.Name, Level: security.Verify}
	if s, ok := errors.AsType[*security.Shortfall](verified.Satisfied(&v.evidence)); ok && v.TLSA == "" {
		p := problemOf(s, Note)
		p.Rule, p.Remedy = adviceUnverified.rule, adviceUnverified.remedy
		v.Problems = add(v.Problems, p)
	}
	if !v.endless {
		v.Problems = append(v.Problems, c.endsSoon(h.Name, v.Certificate)...)
	}
}

// worth is what a session is worth, in words.
func worth(req *security.Requirement, e *security.Evidence) string {
	s, by := req.Describe(e)
	if by == security.Clear {
		return "no TLS" + strings.TrimPrefix(s, string(security.Clear))
	}
	return s
}

// outcome goes through the hosts as the attempts to deliver do.
func (c *checker) outcome() Outcome {
	switch {
	case c.policyErr != nil:
		return wait("whether " + c.policyDomain + " asks for verified TLS could not be told: " + c.policyErr.Error())
	case c.policy.Unknown && !c.overridden():
		return wait("whether " + c.policyDomain + " asks for verified TLS cannot be told now, as neither its record nor its policy can be had" + c.afterUnknown())
	case c.mxErr != nil:
		return wait("the MX records could not be looked up: " + c.mxErr.Error())
	case c.mxDenial.Action != "":
		return c.mxDenial
	case c.homeless != "":
		return c.noHost()
	}
	var held, last string
	dials, more := 0, false
	for _, h := range c.hosts {
		switch {
		case !h.Admitted:
			held = cmp.Or(held, h.refused.Text)
			continue
		case h.left:
			more = true
			continue
		case h.own && (held != "" || last != ""):
			// Better hosts are only down: the mail waits for them.
			return wait(cmp.Or(held, last))
		case h.own:
			return Outcome{Action: "bounce", Text: "mail bounces at once: " + h.Name + " is this relay itself"}
		case h.failed != "" && h.undecided:
			held = cmp.Or(held, h.Name+": "+h.failed)
			continue
		case h.failed != "":
			last = h.Name + ": " + h.failed
			continue
		}
		more = more || len(h.visits) < len(h.addrs)
		for _, v := range h.visits {
			if dials++; v.Usable {
				return c.delivered(h, v, dials)
			}
			req := c.requirement(h)
			switch refused := c.logInRefused(v, req); {
			case !v.open:
				last = h.Name + " [" + v.Address + "]: " + firstFault(v.Problems)
			case req.Satisfied(&v.evidence) == nil && refused != nil:
				last = "the password for " + h.Name + " is not sent: " + refused.Text
			case held == "":
				held = shortfall(req, &v.evidence)
			}
		}
	}
	why := cmp.Or(held, last, "no host was found")
	if held == "" && last != "" && len(c.hosts) > 1 {
		why = "no host can be used; the last one is " + last
	}
	if more {
		why += "; later attempts go on to hosts and addresses that are not looked at here"
	}
	return wait(why)
}

// noHost is what becomes of mail to a domain that has no mail host at all.
func (c *checker) noHost() Outcome {
	return Outcome{Action: "bounce", Text: fmt.Sprintf("mail bounces after a second look %d minutes after the first: %s", int(outbound.SecondLook.Minutes()), c.homeless)}
}

// afterUnknown says what follows once the policy has been unknown for two
// attempts: that mail goes on only where there is a host for it to go to.
func (c *checker) afterUnknown() string {
	switch {
	case c.mxErr != nil:
		return "; its MX records could not be looked up either: " + c.mxErr.Error()
	case c.mxDenial.Action != "":
		return "; after two attempts " + c.mxDenial.Text
	case c.homeless != "":
		return "; after two attempts " + c.noHost().Text
	}
	return "; after two attempts mail goes on without"
}

func shortfall(req *security.Requirement, e *security.Evidence) string {
	if s, ok := errors.AsType[*security.Shortfall](req.Satisfied(e)); ok {
		return s.Source.String() + " asks for more: " + s.Text
	}
	return ""
}

func firstFault(problems []Problem) string {
	for _, p := range problems {
		if p.Severity == Fault {
			return p.Text
		}
	}
	if len(problems) > 0 {
		return problems[0].Text
	}
	return "no session"
}

func wait(why string) Outcome {
	return Outcome{Action: "wait", Text: "mail waits, and nothing is sent: " + why}
}

// delivered is the outcome of a session that mail goes over, after so many addresses.
func (c *checker) delivered(h *host, v *visit, dials int) Outcome {
	out := Outcome{Goes: true, Action: "deliver", Host: h.Name, Address: v.Address, TLS: v.Worth}
	over := "over " + v.Worth
	if v.evidence.StartTLS != security.Established {
		over = "in clear, since nobody insists on TLS and " + map[security.StartTLS]string{
			security.NotOffered: "the host does not offer it", security.Refused: "the host refuses it: " + v.evidence.Failure,
			security.Broken: "the handshake breaks: " + v.evidence.Failure,
		}[v.evidence.StartTLS]
	}
	out.Text = fmt.Sprintf("mail goes to %s [%s] %s", h.Name, v.Address, over)
	if n := (dials - 1) / outbound.MaxAddresses; n > 0 {
		out.Text += fmt.Sprintf("; but only in attempt %d, since the %d addresses before it fail", n+1, dials-1)
	}
	if c.policy.Failure != nil {
		out.Text += "; without MTA-STS, since the policy that the record announces could not be had"
	}
	if p := c.policy.Policy; p != nil && p.Mode == sts.ModeTesting && h.Pattern == "" {
		out.Text += "; the policy does not name the host, and is only being tested"
	}
	if c.overridden() && v.evidence.StartTLS != security.Established {
		out.Text += "; by override_policy, whatever the domain publishes"
	}
	return out
}
