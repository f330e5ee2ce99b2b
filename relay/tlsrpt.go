package relay

import (
	"errors"
	"net"
	"strings"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// counter is what counts sessions, nil where reports are switched off.
func (r *Relay) counter() func(*store.Batch, delivery.SessionCount) {
	if r.reporter == nil {
		return nil
	}
	return func(b *store.Batch, s delivery.SessionCount) {
		for _, res := range results(&s) {
			r.reporter.Count(b, res)
		}
	}
}

// results turns the verdicts on a session into results for TLS reports: one for
// each policy that the domain publishes, or one for none (RFC 8460, 4.3).
func results(s *delivery.SessionCount) []tlsrpt.Result {
	out := judged(s)
	failed := false
	for i := range out {
		r := &out[i]
		r.Again, r.Failed = i > 0, failed && r.Failure != nil
		failed = failed || r.Failure != nil
	}
	return out
}

func judged(s *delivery.SessionCount) (out []tlsrpt.Result) {
	fetch := fetchFailure(s)
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
		out = append(out, tlsrpt.Result{Domain: s.Requirement.Domain, Policy: p, Failure: tlsFailure(s, v.Shortfall), At: s.At})
	}
	return out
}

func tlsFailure(s *delivery.SessionCount, short *security.Shortfall) *tlsrpt.Failure {
	if short == nil {
		return nil
	}
	return &tlsrpt.Failure{Type: short.Type, Code: tlsrpt.ReasonCode(string(short.Code), short.Detail), SendingIP: s.LocalIP, MXHost: s.Requirement.Host, MXHelo: s.Helo, MXIP: s.RemoteIP}
}

// maxReceived is how much is told of what was received instead of a policy.
const maxReceived = 4 << 10

// fetchFailure counts a policy that is announced and could not be had (RFC 8460,
// 4.3.2.2), beside whatever older one was applied.
func fetchFailure(s *delivery.SessionCount) *tlsrpt.Result {
	f := s.Policy.Failure
	if f == nil || s.RemoteIP == "" { // once a session
		return nil
	}
	p := tlsrpt.Policy{Type: tlsrpt.PolicySTS}
	for line := range strings.Lines(f.Text[:min(len(f.Text), maxReceived)]) {
		p.Strings = append(p.Strings, strings.TrimRight(line, "\r\n"))
	}
	return &tlsrpt.Result{Domain: s.Requirement.Domain, Policy: p, At: s.At, Failure: &tlsrpt.Failure{Type: tlsrpt.ResultType(f.Type), Code: reasonCode(f.Err)}}
}

// reasonCode is an error without the addresses and ports of our side, which differ
// each time and are nobody's business.
func reasonCode(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil {
		return strings.ReplaceAll(err.Error(), op.Source.String()+"->", "")
	}
	return err.Error()
}
