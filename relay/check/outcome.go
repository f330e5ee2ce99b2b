package check

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// outcome is what would become of mail.
func (c *checker) outcome() Outcome {
	switch {
	case c.policyErr != nil:
		return wait(phrase.New("whether %s asks for verified TLS could not be told: %v", c.to.PolicyDomain, c.policyErr))
	case c.policy.Unknown && !c.to.Overridden():
		return wait(c.afterUnknown(phrase.New("whether %s asks for verified TLS cannot be told now, as neither its record nor its policy can be had", c.to.PolicyDomain)))
	case c.mxErr != nil:
		return wait(phrase.New("the MX records could not be looked up: %v", c.mxErr))
	case c.mxDenial.Action != "":
		return c.mxDenial
	case !c.homeless.IsZero():
		return c.noHost()
	}
	return c.walk()
}

// walk makes the attempts of a delivery, with what the hosts have shown, until one of
// them takes the mail or all have had their turn.
func (c *checker) walk() Outcome {
	var rotation outbound.Rotation
	guide := outbound.Guide{
		Requirement: func(h outbound.Host) *security.Requirement { return c.requirement(c.hostOf(h)) },
		Addresses:   func(h outbound.Host) []netip.Addr { return c.hostOf(h).addrs },
	}
	now, t := c.Now(), &trial{c: c}
	for complete := false; !complete; {
		t.attempt++
		t.walk = rotation.Begin(c.domain, &c.plan, nil, now)
		for step := range t.walk.Hosts(context.Background(), guide) {
			if t.walk.Complete() {
				break // the rest was tried before
			}
			h := c.hostOf(step.Host)
			if s := t.host(h); s != nil {
				return c.delivered(h, s, t)
			}
			if t.loops() {
				return Outcome{Action: "bounce", Text: phrase.New("mail bounces at once: %s", phrase.New("%s is this relay itself", h.Name))}
			}
			if t.walk.Left() > 0 && step.Refused == nil && (h.failed == nil || h.failed.kind != outbound.Loop) {
				t.walk.Done(step.Host)
			}
		}
		complete = t.walk.Complete()
		rotation.End(c.domain, t.walk, true, false, now)
	}
	return t.waits()
}

// trial is a delivery that is tried with what the hosts have shown.
type trial struct {
	c       *checker
	walk    *outbound.Walk // of the present attempt
	attempt int
	dials   int              // addresses, in all attempts
	reasons outbound.Reasons // of all attempts
	more    bool             // some hosts or addresses are not looked at here
}

func (t *trial) failed(kind outbound.Kind, text phrase.Phrase) {
	err := &hostFailure{kind, text}
	t.walk.Failed(err, kind)
	if kind != outbound.Loop {
		t.reasons.Failed(err, kind)
	}
}

// loops reports whether the mail goes round in a circle.
func (t *trial) loops() bool {
	f, ok := t.walk.Reason(false).(*hostFailure) //nolint:errorlint // it is one that failed has made
	return ok && f.kind == outbound.Loop
}

// host tries the addresses of a host. It returns the session that the mail goes over,
// nil where there is none.
func (t *trial) host(h *host) *session {
	switch {
	case !h.Admitted:
		t.failed(outbound.Held, h.refused.Text)
		return nil
	case h.left:
		t.more = true
		return nil
	case h.failed != nil:
		t.failed(h.failed.kind, phrase.New("%s: %s", h.Name, h.failed.text))
		return nil
	}
	for _, a := range t.walk.Untried(h.addrs) {
		if t.walk.Left() == 0 {
			break
		}
		t.walk.Dial(1)
		t.dials++
		s := h.session(a)
		switch {
		case s == nil:
			t.more = true
		case s.Usable:
			return s
		default:
			kind, text := t.c.shortcoming(h, s)
			t.failed(kind, text)
		}
		t.walk.InVain(netip.AddrPortFrom(a, h.Port))
	}
	return nil
}

// waits is the outcome where no host takes the mail.
func (t *trial) waits() Outcome {
	text := phrase.New("no host was found")
	t.c.down = !t.reasons.Held() && !t.more
	if err := t.reasons.Reason(false); err != nil {
		text = phrase.Of(err)
		if !t.reasons.Held() && len(t.c.hosts) > 1 {
			text = phrase.New("no host can be used; the last one is %s", text)
		}
	}
	if t.more {
		text = phrase.New("%s; later attempts go on to hosts and addresses that are not looked at here", text)
	}
	return wait(text)
}

// hostOf is what was found out about a host of the plan.
func (c *checker) hostOf(h outbound.Host) *host {
	return c.hosts[slices.IndexFunc(c.hosts, func(x *host) bool { return x.Name == h.Name })]
}

// session is the session with an address of the host, nil where none was tried.
func (h *host) session(a netip.Addr) *session {
	i := slices.IndexFunc(h.sessions, func(v *session) bool { return v.Address == a.String() })
	if i < 0 {
		return nil
	}
	return h.sessions[i]
}

// shortcoming is why mail does not go over a session.
func (c *checker) shortcoming(h *host, v *session) (outbound.Kind, phrase.Phrase) {
	if !v.open {
		return outbound.Down, phrase.New("%s [%s]: %s", h.Name, v.Address, firstFault(v.Problems))
	}
	req := c.requirement(h)
	if s, ok := errors.AsType[*security.Shortfall](req.Satisfied(&v.evidence)); ok {
		return outbound.Held, phrase.New("%s asks for more: %s", s.Source, s.Text)
	}
	if s := c.logInRefused(v, req); s != nil {
		return outbound.Down, phrase.New("the password for %s is not sent: %s", h.Name, s.Text)
	}
	return outbound.Down, phrase.New("no session")
}

// noHost is what becomes of mail to a domain that has no mail host at all.
func (c *checker) noHost() Outcome {
	return Outcome{Action: "bounce", Text: phrase.New("mail bounces after a second look %d minutes after the first: %s", int(outbound.SecondLook.Minutes()), c.homeless)}
}

// afterUnknown adds to why the policy is unknown what follows after two attempts: that mail
// goes on only where there is a host for it to go to.
func (c *checker) afterUnknown(why phrase.Phrase) phrase.Phrase {
	switch {
	case c.mxErr != nil:
		return phrase.New("%s; its MX records could not be looked up either: %v", why, c.mxErr)
	case c.mxDenial.Action != "":
		return phrase.New("%s; after two attempts %s", why, c.mxDenial.Text)
	case !c.homeless.IsZero():
		return phrase.New("%s; after two attempts %s", why, c.noHost().Text)
	}
	return phrase.New("%s; after two attempts mail goes on without", why)
}

func firstFault(problems []Problem) phrase.Phrase {
	for _, p := range problems {
		if p.Severity == Fault {
			return p.Text
		}
	}
	if len(problems) > 0 {
		return problems[0].Text
	}
	return phrase.New("no session")
}

func wait(why phrase.Phrase) Outcome {
	return Outcome{Action: "wait", Text: phrase.New("mail waits, and nothing is sent: %s", why)}
}

// delivered is the outcome where the mail goes over a session, after what was tried.
func (c *checker) delivered(h *host, v *session, t *trial) Outcome {
	out := Outcome{Deliverable: true, Action: "deliver", Host: h.Name, Address: v.Address, TLS: v.Protection}
	over := phrase.New("over %s", v.Protection)
	switch v.evidence.StartTLS {
	case security.NotOffered:
		over = phrase.New("in clear, since nobody insists on TLS and the host does not offer it")
	case security.Refused:
		over = phrase.New("in clear, since nobody insists on TLS and the host refuses it: %s", v.evidence.Failure)
	case security.Broken:
		over = phrase.New("in clear, since nobody insists on TLS and the handshake breaks: %s", v.evidence.Failure)
	}
	out.Text = phrase.New("mail goes to %s [%s] %s", h.Name, v.Address, over)
	switch {
	case t.attempt > 1 && t.dials > 1:
		out.Text = phrase.New("%s; but only in attempt %d, since the %d addresses before it fail", out.Text, t.attempt, t.dials-1)
	case t.attempt > 1:
		out.Text = phrase.New("%s; but only in attempt %d, since the hosts before it fail", out.Text, t.attempt)
	}
	if c.policy.Failure != nil {
		out.Text = phrase.New("%s; without MTA-STS, since the policy that the record announces could not be had", out.Text)
	}
	if p := c.policy.Policy; p != nil && p.Mode == sts.ModeTesting && h.Pattern == "" {
		out.Text = phrase.New("%s; the policy does not name the host, and is only being tested", out.Text)
	}
	if c.to.Overridden() && v.evidence.StartTLS != security.Established {
		out.Text = phrase.New("%s; by override_policy, whatever the domain publishes", out.Text)
	}
	return out
}
