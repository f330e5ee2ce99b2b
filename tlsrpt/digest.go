package tlsrpt

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// digest is what a report says in short, for the text that goes with it.
type digest struct {
	report     *Report // without its policies
	policies   int
	types      map[PolicyType]bool
	successful int64
	failed     int64
	failures   map[failureKind]int64
}

// failureKind is what a postmaster has to look for, and where.
type failureKind struct {
	host string
	kind ResultType
}

// maxKinds and maxTold bound the failures that are remembered and told.
const (
	maxKinds = 1000
	maxTold  = 20
)

func newDigest(r *Report) *digest {
	return &digest{report: r, types: make(map[PolicyType]bool), failures: make(map[failureKind]int64)}
}

func (d *digest) add(p *ReportPolicy) {
	d.policies++
	d.types[p.Policy.Type] = true
	d.successful += p.Summary.Successful
	d.failed += p.Summary.Failed
	for _, f := range p.Details {
		k := failureKind{f.ReceivingMXHostname, f.ResultType}
		if _, known := d.failures[k]; known || len(d.failures) < maxKinds {
			d.failures[k] += f.FailedSessionCount
		}
	}
}

// write tells a postmaster what the report is about.
func (d *digest) write(w io.Writer, i Identity, domain string) {
	day := d.report.DateRange.Start.Format(DayFormat)
	fmt.Fprintf(w, "This is a daily report on TLS (RFC 8460) from the mail server of\n%s to the owner of %s.\n\n", i.Organization, domain)
	fmt.Fprintf(w, "Day (UTC):                %s\n", day)
	fmt.Fprintf(w, "Sessions that went well:  %d\n", d.successful)
	fmt.Fprintf(w, "Sessions that failed:     %d\n", d.failed)
	if names := d.policyNames(); names != "" {
		fmt.Fprintf(w, "Judged by:                %s\n", names)
	}
	if d.failed == 0 {
		fmt.Fprint(w, "\nAll is well; there is nothing to do.\n")
	} else {
		d.writeFailures(w)
	}
	fmt.Fprintf(w, "\nThe attached file has the details for programs (JSON, compressed).\n"+
		"You get this because %s names you; questions go to\n%s.\n", RecordName(domain), i.Contact)
}

func (d *digest) policyNames() string {
	var names []string
	for _, t := range slices.Sorted(maps.Keys(d.types)) {
		switch t {
		case PolicySTS:
			names = append(names, "your MTA-STS policy")
		case PolicyTLSA:
			names = append(names, "your TLSA records (DANE)")
		case PolicyNone:
			names = append(names, "no policy (none was found)")
		}
	}
	return strings.Join(names, ", ")
}

func (d *digest) writeFailures(w io.Writer) {
	kinds := slices.SortedFunc(maps.Keys(d.failures), func(a, b failureKind) int {
		return cmp.Or(cmp.Compare(d.failures[b], d.failures[a]), cmp.Compare(a.host, b.host), cmp.Compare(a.kind, b.kind))
	})
	fmt.Fprint(w, "\nWhat failed:\n")
	for n, k := range kinds {
		if n == maxTold {
			fmt.Fprintf(w, "\n  and %d more kinds, which the attached file has\n", len(kinds)-n)
			break
		}
		host := k.host
		if host == "" {
			host = "(before any host was contacted)"
		}
		fmt.Fprintf(w, "\n  %s\n    %d failed: %s\n", host, d.failures[k], k.kind)
		for line := range strings.Lines(advice(k.kind)) {
			fmt.Fprintf(w, "    %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
}

// advice says what a result type means and what helps.
func advice(t ResultType) string {
	switch t {
	case StartTLSNotSupported:
		return "The host did not offer STARTTLS, or refused it. Switch TLS on there,\nor look for a firewall that takes it away."
	case CertificateHostMismatch:
		return "The certificate is not for the host's name. It must name the host as\nthe MX record does."
	case CertificateNotTrusted:
		return "The certificate is self-signed, or its chain leads to no known\nauthority. Let the host send the intermediate certificates too."
	case CertificateExpired:
		return "The certificate is out of date. Renew it."
	case TLSAInvalid:
		return "No TLSA record of the host can be used. Publish one of \"3 1 1\"."
	case DNSSECInvalid:
		return "The answers of your DNS did not pass DNSSEC. Check the signatures."
	case DANERequired:
		return "The host has no TLSA records that can be used."
	case STSPolicyFetchError:
		return "The policy is announced and could not be fetched. Check\nhttps://mta-sts.DOMAIN/.well-known/mta-sts.txt."
	case STSPolicyInvalid:
		return "The policy was fetched and is malformed. Check its text."
	case STSWebPKIInvalid:
		return "The certificate of the policy's web server does not hold."
	}
	return "The session did not pass. The code in the attached file says why: a\nname that the policy lacks, TLSA records that do not fit, a handshake\nthat broke."
}
