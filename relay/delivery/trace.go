package delivery

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
	"github.com/stsrelay/stsrelay/relay/trace"
	"github.com/stsrelay/stsrelay/sts"
)

// beginTrace begins the trace of an attempt, and returns a context whose look-ups are
// part of it.
func (a *attempt) beginTrace(ctx context.Context) context.Context {
	if a.d.trace == nil {
		return ctx
	}
	a.trace = a.d.trace.Begin(a.id, a.claim.Domain)
	a.trace.AddLate("", (*begun)(a.claim))
	return dnsclient.WithObserver(ctx, func(o *dnsclient.Observation) { a.trace.AddLate("", (*answered)(o)) })
}

// begun is a claim that is tried, for a trace.
type begun queue.Claim

func (c *begun) Said() []trace.Said {
	return said(trace.Began, fmt.Sprintf("attempt %d, from <%s>, recipients of %s: %d", c.Attempts+1, c.Envelope.From, c.Domain, len(c.States)))
}

// answered is what the DNS says, for a trace.
type answered dnsclient.Observation

func (o *answered) Said() []trace.Said {
	return said(trace.DNS, (*dnsclient.Observation)(o).String())
}

func said(step trace.Step, text string) []trace.Said { return []trace.Said{{Step: step, Text: text}} }

func (a *attempt) tracePolicy(r sts.Result, err error) {
	if a.trace != nil {
		a.trace.AddLate("", trace.LateFunc(func() []trace.Said { return said(trace.Policy, policyText(r, err)) }))
	}
}

func policyText(r sts.Result, err error) string {
	text := "no MTA-STS policy"
	switch p := r.Policy; {
	case err != nil:
		text = "the MTA-STS policy was not looked up: " + err.Error()
	case p != nil:
		origin := "from the cache"
		if r.Fresh {
			origin = "fetched now"
		}
		text = fmt.Sprintf("MTA-STS of %s, mode %s, id %s, %s (fetched %s), mx: %s", r.Domain, p.Mode, r.ID, origin, r.FetchedAt.UTC().Format(time.DateTime+"Z"), strings.Join(p.MX, " "))
	case r.Unknown:
		text = "whether there is an MTA-STS policy is not known: " + r.Why
	}
	if r.Failure != nil {
		text += "; it could not be fetched now: " + r.Failure.Error()
	}
	return text
}

func (a *attempt) tracePlan(p outbound.Plan, err error) {
	if a.trace != nil {
		a.trace.AddLate("", trace.LateFunc(func() []trace.Said { return said(trace.Host, planText(p, err)) }))
	}
}

func planText(p outbound.Plan, err error) string {
	if err != nil {
		return "no host is known: " + err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the hosts come from: %s, ", p.From)
	if p.Secure {
		b.WriteString("protected from forgery")
	} else {
		b.WriteString("not protected by DNSSEC")
	}
	// They were in this order before they were shuffled.
	hosts := slices.SortedStableFunc(slices.Values(p.Hosts), func(a, b outbound.Host) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Name, b.Name))
	})
	for i, h := range hosts {
		if i == outbound.MaxHosts {
			fmt.Fprintf(&b, "; %d more", len(hosts)-i)
			break
		}
		fmt.Fprintf(&b, "; %d %s", h.Preference, h.Name)
	}
	return b.String()
}

// traceDialogue returns who is told of the dialogue with a host, nil for nobody.
func (a *attempt) traceDialogue(host string) smtpclient.Trace {
	if a.trace == nil {
		return nil
	}
	return func(sent bool, line string) {
		step := trace.Received
		if sent {
			step = trace.Sent
		}
		a.trace.Add(host, step, line)
	}
}

// traceReused tells that an open session is used, and begins to tell of its dialogue.
func (a *attempt) traceReused(h *hostTry, s *session) {
	if a.trace == nil {
		return
	}
	ip, n, req, e, resumed := s.remoteIP, s.messages+1, h.req, &s.evidence, s.resumed // another attempt may have s by then
	a.trace.AddLate(h.Name, trace.LateFunc(func() []trace.Said {
		reused := said(trace.Connect, fmt.Sprintf("a session with %s that is open is used again, for its message %d", ip, n))
		return append(reused, evidenceTexts(req, e, resumed)...)
	}))
	s.client.SetTrace(a.traceDialogue(h.Name))
}

func (a *attempt) traceDial(host string, at []netip.AddrPort, won int, err error) {
	switch {
	case a.trace == nil:
	case err != nil:
		a.trace.Add(host, trace.Connect, "no connection: "+err.Error())
	default:
		a.trace.Add(host, trace.Connect, "connected to "+at[won].String())
	}
}

// traceEvidence tells what a session proved, and what each source says of that.
func (a *attempt) traceEvidence(req *security.Requirement, e *security.Evidence, resumed bool) {
	a.trace.AddLate(req.Host, trace.LateFunc(func() []trace.Said { return evidenceTexts(req, e, resumed) }))
}

func evidenceTexts(req *security.Requirement, e *security.Evidence, resumed bool) (all []trace.Said) {
	text := "STARTTLS is " + e.StartTLS.String()
	if !e.Failure.IsZero() {
		text += ": " + e.Failure.String()
	}
	if e.StartTLS == security.Established {
		text = e.Cipher()
		if resumed {
			text += ", resumed"
		}
	}
	all = append(all, trace.Said{Step: trace.TLS, Text: text})
	if e.StartTLS == security.Established && len(e.Chain) > 0 {
		leaf, verdict := e.Chain[0], "is trusted"
		if e.Certificate != security.Trusted {
			verdict = e.CertificateText.String()
		}
		all = append(all, trace.Said{Step: trace.TLS, Text: fmt.Sprintf("certificate for %s, issued by %s, until %s, SHA-256 %s; it %s", strings.Join(leaf.DNSNames, " "), leaf.Issuer, leaf.NotAfter.UTC().Format(time.DateOnly), e.Fingerprint, verdict)})
	}
	for _, v := range req.Judge(e, nil) {
		says := "satisfied"
		if v.Shortfall != nil {
			says = v.Shortfall.Text.String() + "; this holds nothing"
			if v.Binding {
				says = v.Shortfall.Text.String() + "; nothing may be sent"
			}
		}
		all = append(all, trace.Said{Step: trace.Judge, Text: v.Source.String() + ": " + says})
	}
	return all
}

// traceResults tells the results, and ends the trace.
func (a *attempt) traceResults(e *Event) {
	if a.trace == nil {
		return
	}
	verdict := e.Verdict()
	if verdict == "delivered" && !a.trace.Watched() {
		a.trace.End(false, "")
		return
	}
	for _, r := range e.Results() {
		text := fmt.Sprintf("%s: %s", r.Verdict, strings.Join(r.To, ", "))
		for _, more := range []string{r.Code, r.Reply, r.Text} {
			if more != "" {
				text += "; " + more
			}
		}
		a.trace.Add(r.Host, trace.Result, text)
	}
	a.trace.End(verdict != "delivered", fmt.Sprintf("%s after %s", verdict, e.Took.Round(time.Millisecond)))
}
