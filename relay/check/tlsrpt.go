package check

import (
	"context"
	"errors"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// findTLSRPT looks up where the domain wants TLS reports.
func (c *checker) findTLSRPT(ctx context.Context) {
	out := &TLSRPT{Name: tlsrpt.RecordName(c.to.PolicyDomain), TXT: []string{}, RUA: []string{}}
	c.report.TLSRPT = out
	problem := func(severity Severity, text, remedy phrase.Phrase) {
		out.Problems = append(out.Problems, Problem{severity, text, "RFC 8460, 3", remedy})
	}
	example := "\"v=TLSRPTv1; rua=mailto:tls-reports@" + c.to.PolicyDomain + "\""
	txt, err := c.Resolver.TXT(ctx, out.Name, false)
	out.CNAME = txt.CNAME
	if err != nil && !dnsclient.IsNotFound(err) {
		p := c.lookupFault(ctx, phrase.New("the TLS-RPT record could not be looked up: %v", err), err, "RFC 8460, 3", ownerOfDomain)
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
			return Problem{Warning, phrase.New("the record \"%s\" looks like one of TLS-RPT, and does not begin with \"v=TLSRPTv1;\"", shorten(t, 80)), "RFC 8460, 3",
				phrase.New("the domain's owner: let the record begin with exactly v=TLSRPTv1; and in that case of letters")}
		})...)
		if len(out.Problems) == 0 {
			problem(Note, phrase.New("there is no TLS-RPT record: nobody tells the domain's owner of failures"), phrase.New("the domain's owner: publish a TXT record %s", example))
		}
	case err != nil:
		problem(Warning, phrase.Of(err), phrase.New("the domain's owner: publish one record, as in %s", example))
	case len(rec.RUA) == 0:
		problem(Warning, phrase.New("the TLS-RPT record names no destination that can be used"), phrase.New("the domain's owner: write it as in %s", example))
	}
	out.Problems = append(out.Problems, problemsOf(rec.Ignored, func(uri phrase.Phrase) Problem {
		return Problem{Warning, phrase.New("a destination is passed over: %s", uri), "RFC 8460, 3",
			phrase.New("the domain's owner: use mailto: and an address, or https: and a URL, separated by commas")}
	})...)
}
