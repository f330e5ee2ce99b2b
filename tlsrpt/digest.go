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
	fmt.Fprintf(w, "Day (UTC):              %s\n", day)
	fmt.Fprintf(w, "Sessions as they should: %d\n", d.successful)
	fmt.Fprintf(w, "Sessions that failed:    %d\n", d.failed)
	if names := d.policyNames(); names != "" {
		fmt.Fprintf(w, "Judged by:               %s\n", names)
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
		fmt.Fprintf(w, "\n  %s\n    %d × %s: %s\n", host, d.failures[k], k.kind, advice(k.kind))
	}
}

// advice says what a result type means and what helps.
func advice(t ResultType) string {
	switch t {
	case StartTLSNotSupported:
		return "the host did not offer STARTTLS, or refused it.\n    Switch TLS on there, or look for a firewall that takes it away."
	case CertificateHostMismatch:
		return "the certificate is not for the host's name.\n    It must name the host as the MX record does."
	case CertificateNotTrusted:
		return "the certificate is self-signed, or its chain leads\n    to no known authority. Send the intermediate certificates too."
	case CertificateExpired:
		return "the certificate is out of date. Renew it."
	case TLSAInvalid:
		return "no TLSA record of the host can be used. Publish \"3 1 1\"."
	case DNSSECInvalid:
		return "the DNS answers did not pass DNSSEC. Check the signatures."
	case DANERequired:
		return "the host has no usable TLSA records."
	case STSPolicyFetchError:
		return "the policy is announced and could not be fetched.\n    Check https://mta-sts.<domain>/.well-known/mta-sts.txt."
	case STSPolicyInvalid:
		return "the policy was fetched and is malformed. Check its text."
	case STSWebPKIInvalid:
		return "the certificate of the policy host is not valid for it."
	}
	return "the session did not pass; the code in the attached\n    file says why (a name that the policy lacks, a TLSA mismatch, a broken\n    handshake)."
}
