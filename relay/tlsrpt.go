package relay

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// countSessions returns a reader of events that counts their sessions for TLS reports.
func countSessions(count func(*store.Batch, tlsrpt.Result)) func(*delivery.Event) delivery.Changes {
	return func(e *delivery.Event) (c delivery.Changes) {
		if !slices.ContainsFunc(e.Sessions, func(s delivery.Session) bool { return s.Verdicts != nil }) {
			return c
		}
		c.Batch = func(b *store.Batch) {
			for i := range e.Sessions {
				for _, result := range results(e, &e.Sessions[i]) {
					count(b, result)
				}
			}
		}
		return c
	}
}

// followReports returns a reader of events that tells the reporter what became of reports
// that it has mailed. Nobody gets a notice about those.
func followReports(reporter *tlsrpt.Reporter) func(*delivery.Event) {
	return func(e *delivery.Event) {
		if e.Kind != delivery.EventAttempt || e.Claim.Envelope.Kind != queue.Report {
			return
		}
		for _, s := range e.States { // there is one recipient
			switch s.State {
			case queue.Delivered:
				reporter.Mailed(context.Background(), e.Claim.Envelope.ID.String(), "")
			case queue.Bounced:
				reporter.Mailed(context.Background(), e.Claim.Envelope.ID.String(), s.LastError)
			}
		}
	}
}

// results turns the verdicts on a session into results for TLS reports: one for
// each policy that the domain publishes, or one for none (RFC 8460, 4.3).
func results(e *delivery.Event, s *delivery.Session) []tlsrpt.Result {
	out := judged(e, s)
	failed := false
	for i := range out {
		r := &out[i]
		r.Again, r.Failed = i > 0, failed && r.Failure != nil
		failed = failed || r.Failure != nil
	}
	return out
}

func judged(e *delivery.Event, s *delivery.Session) (out []tlsrpt.Result) {
	if s.Verdicts == nil {
		return nil
	}
	fetch := fetchFailure(e, s)
	if fetch != nil {
		out = append(out, *fetch)
	}
	for _, v := range s.Verdicts {
		var p tlsrpt.Policy
		switch v.Source {
		case security.MTASTS:
			p = tlsrpt.Policy{Type: tlsrpt.PolicySTS, Strings: s.Requirement.Policy.Lines(), MXHosts: s.Requirement.Policy.MX}
		case security.DANE:
			p = tlsrpt.Policy{Type: tlsrpt.PolicyTLSA, MXHosts: []string{s.Requirement.Host}}
			for _, r := range s.Requirement.TLSA.Records {
				p.Strings = append(p.Strings, r.String())
			}
		case security.Opportunistic:
			if fetch != nil {
				continue // a policy is announced: it cannot be said that there is none
			}
			p = tlsrpt.Policy{Type: tlsrpt.PolicyNone}
		case security.Rule:
			if v.Shortfall == nil || v.Shortfall.Type != tlsrpt.DANERequired {
				continue
			}
			// RFC 8460, 4.3.2.1 has a result type for this one rule of the operator.
			p = tlsrpt.Policy{Type: tlsrpt.PolicyTLSA, MXHosts: []string{s.Requirement.Host}}
		default:
			continue // what operator or sender asked for is not the domain's business
		}
		out = append(out, tlsrpt.Result{Domain: s.Requirement.Domain, Policy: p, Failure: tlsFailure(s, v.Shortfall), At: e.At})
	}
	return out
}

func tlsFailure(s *delivery.Session, short *security.Shortfall) *tlsrpt.Failure {
	if short == nil {
		return nil
	}
	return &tlsrpt.Failure{Type: short.Type, Code: tlsrpt.ReasonCode(string(short.Code), short.Detail), SendingIP: s.LocalIP, MXHost: s.Requirement.Host, MXHelo: s.Helo, MXIP: s.RemoteIP}
}

// maxReceived bounds how much a report quotes of what was received instead of a policy,
// in octets.
const maxReceived = 4 << 10

// fetchFailure counts a policy that is announced and could not be had (RFC 8460,
// 4.3.2.2), beside whatever older one was applied.
func fetchFailure(e *delivery.Event, s *delivery.Session) *tlsrpt.Result {
	f := s.PolicyFailure
	if f == nil || s.RemoteIP == "" { // once a session
		return nil
	}
	p := tlsrpt.Policy{Type: tlsrpt.PolicySTS}
	for line := range strings.Lines(f.Text[:min(len(f.Text), maxReceived)]) {
		p.Strings = append(p.Strings, strings.TrimRight(line, "\r\n"))
	}
	return &tlsrpt.Result{Domain: s.Requirement.Domain, Policy: p, At: e.At, Failure: &tlsrpt.Failure{Type: tlsrpt.ResultType(f.Type), Code: reasonCode(f.Err)}}
}

// reasonCode is an error without the addresses and ports of our side, which differ
// each time and are nobody's business.
func reasonCode(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil {
		return strings.ReplaceAll(err.Error(), op.Source.String()+"->", "")
	}
	return err.Error()
}
