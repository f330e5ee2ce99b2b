package relay

import (
	"errors"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// countSession turns the verdicts on a session into results for TLS reports:
// one for each published policy, or one for none (RFC 8460, 4.3).
func countSession(b *store.Batch, s delivery.SessionCount) {
	for _, v := range s.Verdicts {
		var p tlsrpt.Policy
		switch v.Source {
		case security.MTASTS:
			p = tlsrpt.Policy{Type: tlsrpt.PolicySTS, Strings: s.Requirement.Policy.Lines(), MXHosts: s.Requirement.Policy.MX}
		case security.DANE:
			p = tlsrpt.Policy{Type: tlsrpt.PolicyTLSA, MXHosts: []string{s.Requirement.TLSA.Base}}
			for _, r := range s.Requirement.TLSA.Records {
				p.Strings = append(p.Strings, r.String())
			}
		case security.Opportunistic:
			p = tlsrpt.Policy{Type: tlsrpt.PolicyNone}
		default:
			continue // what operator or sender asked for is not the domain's business
		}
		tlsrpt.Count(b, tlsrpt.Result{Domain: s.Requirement.Domain, Policy: p, Failure: failure(&s, v.Shortfall), At: s.At})
	}
	countFetch(b, &s)
}

func failure(s *delivery.SessionCount, short *security.Shortfall) *tlsrpt.Failure {
	if short == nil {
		return nil
	}
	return &tlsrpt.Failure{Type: short.Type, Code: short.Code, SendingIP: s.LocalIP, MXHost: s.Requirement.Host, MXHelo: s.Helo, MXIP: s.RemoteIP}
}

// countFetch counts a policy that is announced and could not be had (RFC 8460,
// 4.3.2.2), beside whatever older one was applied.
func countFetch(b *store.Batch, s *delivery.SessionCount) {
	f := s.Policy.Failure
	if f == nil {
		return
	}
	p := tlsrpt.Policy{Type: tlsrpt.PolicySTS}
	if f.Text != "" {
		p.Strings = []string{f.Text}
	}
	tlsrpt.Count(b, tlsrpt.Result{Domain: s.Requirement.Domain, Policy: p, At: s.At, Failure: &tlsrpt.Failure{Type: tlsrpt.ResultType(f.Type), Code: f.Err.Error()}})
}

// counter is what counts sessions, nil where reports are switched off.
func counter(c *config.Config) func(*store.Batch, delivery.SessionCount) {
	if !c.TLSRPT.Enabled {
		return nil
	}
	return countSession
}

// reports makes the reports of a day as they stand, nil where they are off.
func (r *Relay) reports() func(day, domain string, yield func(*tlsrpt.Report) bool) error {
	c := r.config.Load()
	if !c.TLSRPT.Enabled {
		return nil
	}
	sender := tlsrpt.Sender{Organization: c.TLSRPT.Organization, Contact: c.TLSRPT.Contact}
	return func(day, domain string, yield func(*tlsrpt.Report) bool) error {
		var failed error
		err := tlsrpt.Read(r.store, day, domain, func(counts tlsrpt.DomainCounts) bool {
			report, err := sender.NewReport(counts, day+"."+counts.Domain+"@"+c.Hostname)
			failed = err
			return err == nil && yield(report)
		})
		return errors.Join(err, failed)
	}
}
