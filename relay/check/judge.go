package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// requirement is what is asked of a host for a message that asks for nothing
// itself.
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
	v.Usable = h.Admitted && h.failed == nil && req.Satisfied(&v.evidence) == nil && c.logInRefused(v, req) == nil
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
				if !verdict.Binding && s.Source == security.MTASTS && v.TLSA != "" && req.Policy.Mode == sts.ModeEnforce && !c.to.Overridden() {
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
	r := c.to.Route()
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
	verified := security.Requirement{Domain: c.to.PolicyDomain, Host: h.Name, Level: security.Verify}
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
		return wait("whether " + c.to.PolicyDomain + " asks for verified TLS could not be told: " + c.policyErr.Error())
	case c.policy.Unknown && !c.to.Overridden():
		return wait("whether " + c.to.PolicyDomain + " asks for verified TLS cannot be told now, as neither its record nor its policy can be had" + c.afterUnknown())
	case c.mxErr != nil:
		return wait("the MX records could not be looked up: " + c.mxErr.Error())
	case c.mxDenial.Action != "":
		return c.mxDenial
	case c.homeless != "":
		return c.noHost()
	}
	return c.walk()
}

// walk makes the attempts of a delivery, with what the hosts have shown, until one of
// them takes the mail or all have had their turn.
func (c *checker) walk() Outcome {
	var rotation outbound.Rotation
	var why outbound.Reasons
	now, dials, more := c.Now(), 0, false
	guide := outbound.Guide{
		Requirement: func(h outbound.Host) *security.Requirement { return c.requirement(c.hostOf(h)) },
		Addresses:   func(h outbound.Host) []netip.Addr { return c.hostOf(h).addrs },
	}
	for attempt, complete := 1, false; !complete; attempt++ {
		w := rotation.Begin(c.domain, &c.plan, nil, now)
		for step := range w.Hosts(context.Background(), guide) {
			h := c.hostOf(step.Host)
			failed := func(text string, kind outbound.Kind) {
				err := errors.New(text)
				w.Failed(err, kind)
				why.Failed(err, kind)
			}
			switch {
			case !h.Admitted:
				failed(h.refused.Text, outbound.Held)
			case h.left:
				more = true
			case h.failed != nil && h.failed.kind == outbound.Loop:
				w.Failed(h.failed, outbound.Loop)
				if w.Reason(false) == h.failed {
					return Outcome{Action: "bounce", Text: "mail bounces at once: " + h.Name + " is this relay itself"}
				}
				continue
			case h.failed != nil:
				failed(h.Name+": "+h.failed.text, h.failed.kind)
			}
			if h.Admitted && h.failed == nil && !h.left {
				for _, a := range w.Untried(h.addrs) {
					if w.Left() == 0 {
						break
					}
					w.Dial(1)
					dials++
					v := h.session(a)
					switch {
					case v == nil:
						more = true
					case v.Usable:
						return c.delivered(h, v, attempt, dials)
					default:
						text, kind := c.shortcoming(h, v)
						failed(text, kind)
					}
					w.InVain(netip.AddrPortFrom(a, h.Port))
				}
			}
			if w.Left() > 0 && step.Refused == nil {
				w.Done(step.Host)
			}
		}
		complete = w.Complete()
		rotation.End(c.domain, w, true, false, now)
	}
	return c.waits(&why, more)
}

// waits is the outcome where no host takes the mail. more reports whether some were
// not looked at.
func (c *checker) waits(why *outbound.Reasons, more bool) Outcome {
	text := "no host was found"
	if err := why.Reason(false); err != nil {
		text = err.Error()
		if !why.Held() && len(c.hosts) > 1 {
			text = "no host can be used; the last one is " + text
		}
	}
	if more {
		text += "; later attempts go on to hosts and addresses that are not looked at here"
	}
	return wait(text)
}

// hostOf is what was found out about a host of the plan.
func (c *checker) hostOf(h outbound.Host) *host {
	return c.hosts[slices.IndexFunc(c.hosts, func(x *host) bool { return x.Name == h.Name })]
}

// session is the session with an address of the host, nil where none was tried.
func (h *host) session(a netip.Addr) *visit {
	i := slices.IndexFunc(h.visits, func(v *visit) bool { return v.Address == a.String() })
	if i < 0 {
		return nil
	}
	return h.visits[i]
}

// shortcoming is why mail does not go over a session.
func (c *checker) shortcoming(h *host, v *visit) (string, outbound.Kind) {
	if !v.open {
		return h.Name + " [" + v.Address + "]: " + firstFault(v.Problems), outbound.Down
	}
	req := c.requirement(h)
	if s, ok := errors.AsType[*security.Shortfall](req.Satisfied(&v.evidence)); ok {
		return s.Source.String() + " asks for more: " + s.Text, outbound.Held
	}
	if s := c.logInRefused(v, req); s != nil {
		return "the password for " + h.Name + " is not sent: " + s.Text, outbound.Down
	}
	return "no session", outbound.Down
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

// delivered is the outcome of a session that mail goes over, in which attempt and
// after how many addresses.
func (c *checker) delivered(h *host, v *visit, attempt, dials int) Outcome {
	out := Outcome{Goes: true, Action: "deliver", Host: h.Name, Address: v.Address, TLS: v.Worth}
	over := "over " + v.Worth
	if v.evidence.StartTLS != security.Established {
		over = "in clear, since nobody insists on TLS and " + map[security.StartTLS]string{
			security.NotOffered: "the host does not offer it", security.Refused: "the host refuses it: " + v.evidence.Failure,
			security.Broken: "the handshake breaks: " + v.evidence.Failure,
		}[v.evidence.StartTLS]
	}
	out.Text = fmt.Sprintf("mail goes to %s [%s] %s", h.Name, v.Address, over)
	switch {
	case attempt > 1 && dials > 1:
		out.Text += fmt.Sprintf("; but only in attempt %d, since the %d addresses before it fail", attempt, dials-1)
	case attempt > 1:
		out.Text += fmt.Sprintf("; but only in attempt %d, since the hosts before it fail", attempt)
	}
	if c.policy.Failure != nil {
		out.Text += "; without MTA-STS, since the policy that the record announces could not be had"
	}
	if p := c.policy.Policy; p != nil && p.Mode == sts.ModeTesting && h.Pattern == "" {
		out.Text += "; the policy does not name the host, and is only being tested"
	}
	if c.to.Overridden() && v.evidence.StartTLS != security.Established {
		out.Text += "; by override_policy, whatever the domain publishes"
	}
	return out
}
