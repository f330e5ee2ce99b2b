package check

import (
	"context"
	"errors"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// findTLSRPT looks up where the domain wants TLS reports.
func (c *checker) findTLSRPT(ctx context.Context) {
	out := &TLSRPT{Name: tlsrpt.RecordName(c.to.PolicyDomain), TXT: []string{}, RUA: []string{}}
	c.report.TLSRPT = out
	problem := func(severity Severity, text, remedy string) {
		out.Problems = append(out.Problems, Problem{severity, text, "RFC 8460, 3", remedy})
	}
	example := "\"v=TLSRPTv1; rua=mailto:tls-reports@" + c.to.PolicyDomain + "\""
	txt, err := c.Resolver.TXT(ctx, out.Name, false)
	out.CNAME = txt.CNAME
	if err != nil && !dnsclient.IsNotFound(err) {
		p := c.lookupFault(ctx, "the TLS-RPT record could not be looked up: ", err, "RFC 8460, 3", "the domain's owner")
		problem(Warning, p.Text, p.Remedy)
		return
	}
	out.TXT = append(out.TXT, txt.Records...)
	rec, err := tlsrpt.ParseRecord(txt.Records)
	for _, d := range rec.RUA {
		out.RUA = append(out.RUA, d.String())
	}
	switch {
	case errors.Is(err, tlsrpt.ErrNoRecord):
		out.Problems = append(out.Problems, problemsOf(lookalikes(txt.Records, "tlsrpt"), func(t string) Problem {
			return Problem{Warning, "the record \"" + shorten(t, 80) + "\" looks like one of TLS-RPT, and does not begin with \"v=TLSRPTv1;\"", "RFC 8460, 3", "the domain's owner: let the record begin with exactly v=TLSRPTv1; and in that case of letters"}
		})...)
		if len(out.Problems) == 0 {
			problem(Note, "there is no TLS-RPT record: nobody tells the domain's owner of failures", "the domain's owner: publish a TXT record "+example)
		}
	case err != nil:
		problem(Warning, err.Error(), "the domain's owner: publish one record, as in "+example)
	case len(rec.RUA) == 0:
		problem(Warning, "the TLS-RPT record names no destination that can be used", "the domain's owner: write it as in "+example)
	}
	out.Problems = append(out.Problems, problemsOf(rec.Ignored, func(uri string) Problem {
		return Problem{Warning, "a destination is passed over: " + uri, "RFC 8460, 3", "the domain's owner: use mailto: and an address, or https: and a URL, separated by commas"}
	})...)
}
