package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dmarc"
	"golang.org/x/net/publicsuffix"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
)

const ruleDMARC = "RFC 7489, 6.3"

// dmarc checks the DMARC records of the senders' domains: what receivers are asked to do
// with mail that passes neither SPF nor DKIM.
func (s *self) dmarc(ctx context.Context) (f findings) {
	for _, d := range s.Senders {
		record, at, err := s.dmarcRecord(ctx, d)
		switch {
		case err != nil:
			f.bad(Warning, fmt.Sprintf("the DMARC record of %s cannot be looked up: %v", d, err), ruleDMARC, "try again")
			continue
		case record == "":
			f.bad(Warning, d+" has no DMARC record: large providers refuse or distrust bulk mail without", ruleDMARC,
				fmt.Sprintf("publish a TXT record at _dmarc.%s such as \"v=DMARC1; p=none; rua=mailto:dmarc-reports@%s\"", d, d))
			continue
		}
		policy, err := dmarc.Parse(record)
		if err != nil {
			f.bad(Warning, fmt.Sprintf("the DMARC record at %s cannot be used: %v", at, err), ruleDMARC, "mend it: \"v=DMARC1; p=none\" is the least")
			continue
		}
		asks := policy.Policy
		if at != "_dmarc."+d && policy.SubdomainPolicy != "" {
			asks = policy.SubdomainPolicy
		}
		f.ok("the DMARC record of %s (at %s) says p=%s", d, at, asks)
		if asks != dmarc.PolicyNone && !s.signsAs(d, policy.DKIMAlignment) {
			f.bad(Note, fmt.Sprintf("this relay has no DKIM key that is aligned with %s: its mail passes DMARC by SPF alone, or by a signature that it brings along, and fails where it is forwarded", d),
				"RFC 7489, 3.1", `nothing, if the servers behind it sign; else a [[dkim]] key of that domain with sign = ["mail"]`)
		}
	}
	return f
}

// dmarcRecord finds the record of a domain, or of its organizational domain (RFC
// 7489, 6.6.3), and where it is. "": there is none.
func (s *self) dmarcRecord(ctx context.Context, domain string) (record, at string, err error) {
	names := []string{domain}
	if org, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil && org != domain {
		names = append(names, org)
	}
	for _, name := range names {
		at = "_dmarc." + name
		txt, err := s.Resolver.FreshTXT(ctx, at)
		if dnsclient.IsNotFound(err) {
			continue
		}
		if err != nil {
			return "", at, err
		}
		found := slices.DeleteFunc(slices.Clone(txt), func(t string) bool { return !strings.HasPrefix(t, "v=DMARC1") })
		if len(found) > 1 {
			return "", at, fmt.Errorf("there are %d records that begin with v=DMARC1, and exactly one counts", len(found))
		}
		if len(found) == 1 {
			return found[0], at, nil
		}
	}
	return "", at, nil
}

// signsAs reports whether a key of the relay is aligned with a domain (RFC 7489,
// 3.1.1).
func (s *self) signsAs(domain string, mode dmarc.AlignmentMode) bool {
	return slices.ContainsFunc(s.Keys, func(k SelfKey) bool {
		if strings.EqualFold(k.Domain, domain) {
			return true
		}
		ours, errOurs := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(k.Domain))
		theirs, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(domain))
		return mode != dmarc.AlignmentStrict && err == nil && errOurs == nil && ours == theirs
	})
}
