package check

import (
	"context"
)

// findTLSRPT looks up where the domain wants TLS reports.
func (c *checker) findTLSRPT(ctx context.Context) {
	out := &TLSRPT{Name: "_smtp._tls." + c.policyDomain, TXT: []string{}, RUA: []string{}}
	c.report.TLSRPT = out
	txt, err := c.Resolver.TXT(ctx, out.Name, false)
	out.CNAME = txt.CNAME
	switch {
	case isDenial(err):
		out.Problems = append(out.Problems, Problem{Note, "there is no TLS-RPT record: nobody tells the domain's owner of failures", "RFC 8460, 3",
			"the domain's owner: publish a TXT record \"v=TLSRPTv1; rua=mailto:tls-reports@" + c.policyDomain + "\""})
		return
	case err != nil:
		out.Problems = append(out.Problems, Problem{Warning, "the TLS-RPT record could not be looked up: " + err.Error(), "RFC 8460, 3", "the domain's owner: let the name servers answer for names with an underscore"})
		return
	}
	out.TXT = txt.Records
}
