package check

import (
	"errors"
	"slices"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// requirement is what is asked of a host for a message that has no demand of its own.
func (c *checker) requirement(h *host) *security.Requirement {
	req := c.to.Requirement(h.Name, &c.plan, c.policy.Policy, c.RefusePlaintext)
	req.TLSA = h.set
	return req
}

// judge compares what was asked with what was found, host by host.
func (c *checker) judge() {
	for _, h := range c.hosts {
		req := c.requirement(h)
		c.judgeName(h, req)
		for _, v := range h.sessions {
			if v.open {
				c.judgeSession(h, v, req)
			}
			h.Sessions = append(h.Sessions, v.Session)
		}
		c.suggestTLSA(h)
		if !h.left {
			c.report.Hosts = append(c.report.Hosts, h.Host)
		}
	}
	c.patterns()
	if c.mxDenial.Action == "" {
		return
	}
	// A domain that takes no mail needs no records.
	if c.report.TLSRPT = nil; c.report.Record != nil && len(c.report.Record.TXT) == 0 {
		c.report.Record = nil
	}
}

// judgeName compares the host's name with the policy in force, or else with the one that
// would be in force if the record were right.
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
		h.Problems = append(h.Problems, Problem{Note, phrase.New("DANE verifies the host, but nobody vouches for the MX records that name it: whoever forges them can name another host"),
			"RFC 7672, 2.2.1", phrase.New("the domain's owner: sign the domain's zone, or publish an MTA-STS policy in mode enforce")})
	}
	if refused, ok := errors.AsType[*security.Shortfall](req.Admits()); ok {
		h.Admitted, h.refused = false, refused
		h.Problems = append(h.Problems, problemOf(refused, Fault))
	}
	// The verdict on any session tells whether the policy names the host.
	for _, v := range published.Judge(&security.Evidence{Host: h.Name}, nil) {
		if s := v.Shortfall; s != nil && s.Code == security.CodeMXMismatch {
			h.Problems = add(h.Problems, problemOf(s, Warning))
		}
	}
}

func (c *checker) judgeSession(h *host, v *session, req *security.Requirement) {
	v.Usable = h.Admitted && h.failed == nil && req.Satisfied(&v.evidence) == nil && c.logInRefused(v, req) == nil
	v.Protection = protectionOf(req, &v.evidence)
	if h.set != nil {
		if rec, err := req.MatchTLSA(&v.evidence); err == nil {
			v.TLSA, v.endless = rec.String(), rec.Usage == dane.UsageEE
		}
	}
	for _, verdict := range req.Judge(&v.evidence, nil) {
		out := Verdict{Source: verdict.Source.Phrase(), Binding: verdict.Binding, Met: verdict.Shortfall == nil}
		if s := verdict.Shortfall; s != nil {
			out.Type, out.Reason = string(s.Type), s.Text
			if s.Code != security.CodeMXMismatch && (h.refused == nil || s.Code != h.refused.Code) { // the host has this problem already
				p := *s
				if !verdict.Binding && s.Source == security.MTASTS && v.TLSA != "" && req.Policy.Mode == sts.ModeEnforce && !c.to.Overridden() {
					p.Text = phrase.New("%s; DANE verifies it, so mail goes all the same, from those who know DANE", p.Text)
				}
				v.addShortfall(&p, verdict.Binding)
			}
		}
		v.Verdicts = append(v.Verdicts, out)
	}
	if s := c.logInRefused(v, req); s != nil {
		p := problemOf(s, Fault)
		p.Text = phrase.New("the relay has to log in here, and its password is not sent: %s", p.Text)
		v.Problems = append(v.Problems, p)
	}
	c.remark(h, v)
}

// logInRefused is why the relay does not send its password over a session. It is nil
// where the relay does, and where it does not have to log in.
func (c *checker) logInRefused(v *session, req *security.Requirement) *security.Shortfall {
	r := c.to.Route()
	if r == nil || r.User == "" {
		return nil
	}
	s, _ := errors.AsType[*security.Shortfall](req.MaySendPassword(&v.evidence))
	return s
}

// addShortfall adds a shortfall once, however many sources ask for the same. One that
// holds mail replaces one that does not.
func (v *session) addShortfall(s *security.Shortfall, binding bool) {
	severity := Warning
	if binding {
		severity = Fault
	}
	p := problemOf(s, severity)
	for i := range v.Problems {
		if old := &v.Problems[i]; old.Text.String() == p.Text.String() {
			if binding && old.Severity != Fault {
				*old = p
			}
			return
		}
	}
	v.Problems = append(v.Problems, p)
}

// remark notes problems that hold no mail now: what nobody asks for, and certificates
// that end soon.
func (c *checker) remark(h *host, v *session) {
	if v.Certificate == nil {
		return
	}
	if slices.ContainsFunc(v.Problems, func(p Problem) bool { return p.Severity == Fault }) {
		return // it says what to mend
	}
	verified := security.Requirement{Domain: c.to.PolicyDomain, Host: h.Name, Level: security.Verify}
	if s, ok := errors.AsType[*security.Shortfall](verified.Satisfied(&v.evidence)); ok && v.TLSA == "" {
		p := problemOf(s, Note)
		p.Rule = adviceUnverified.rule
		if policy := c.policy.Policy; policy != nil && policy.Mode == sts.ModeEnforce {
			p.Severity = Warning // it holds mail as soon as the policy names the host
		} else {
			p.Remedy = adviceUnverified.remedy
		}
		v.Problems = add(v.Problems, p)
	}
	if !v.endless {
		v.Problems = append(v.Problems, c.endsSoon(h.Name, v.Certificate)...)
	}
}

// protectionOf is how a session protects mail, in words.
func protectionOf(req *security.Requirement, e *security.Evidence) phrase.Phrase {
	s, by := req.Describe(e)
	if by != security.Clear {
		return s
	}
	s = phrase.New("no TLS")
	encrypted := security.Requirement{Host: e.Host, RefusePlaintext: true}
	if lacks, ok := errors.AsType[*security.Shortfall](encrypted.Satisfied(e)); ok && e.StartTLS != security.NotOffered {
		s = phrase.New("no TLS: %s", lacks.Text)
	}
	if req.Override && (req.TLSA != nil || req.Policy != nil) {
		s = phrase.New("%s; the operator's rule overrides what the domain publishes", s)
	}
	return s
}
