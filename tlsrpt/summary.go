package tlsrpt

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// summary is the content of a report in short, for the text of its mail.
type summary struct {
	report   *Report // without its policies
	policies int
	failed   int64
	judged   map[string]*Summary // by the name of a policy as the text has it
	failures map[failureKind]*failureSum
}

// failureKind is a kind of failure at a host.
type failureKind struct {
	host string
	kind ResultType
	code string
}

// failureSum is the number of failures with the times of the first and the last, in
// seconds since 1970.
type failureSum struct{ count, first, last int64 }

// maxKinds bounds the kinds that are kept, maxTold those in the text.
const (
	maxKinds = 1000
	maxTold  = 20
)

func newSummary(r *Report) *summary {
	return &summary{report: r, judged: make(map[string]*Summary), failures: make(map[failureKind]*failureSum)}
}

func (d *summary) add(c *Counts) {
	d.policies++
	name, failed := c.Policy.name(), c.Failed()
	if d.judged[name] == nil {
		d.judged[name] = new(Summary)
	}
	d.judged[name].Successful += c.Successes
	d.judged[name].Failed += failed
	d.failed += failed
	for _, f := range c.Failures {
		k := failureKind{f.MXHost, f.Type, f.Code}
		sum := d.failures[k]
		switch {
		case sum != nil:
			sum.count, sum.first, sum.last = sum.count+f.Count, min(sum.first, f.First), max(sum.last, f.Last)
		case len(d.failures) < maxKinds:
			d.failures[k] = &failureSum{f.Count, f.First, f.Last}
		}
	}
}

// write writes the text.
func (d *summary) write(w io.Writer, i Identity, domain string, advice func(code string) string) {
	day := d.report.DateRange.Start.Format(DayFormat)
	fmt.Fprintf(w, "This is a daily report on TLS (RFC 8460) from the mail server of\n%s to the owner of %s.\n\n", i.Organization, domain)
	fmt.Fprintf(w, "Day (UTC): %s\n\nSessions, judged by\n", day)
	for _, name := range slices.Sorted(maps.Keys(d.judged)) {
		fmt.Fprintf(w, "  %-36s %d went well, %d failed\n", name+":", d.judged[name].Successful, d.judged[name].Failed)
	}
	if d.failed == 0 {
		fmt.Fprint(w, "\nAll is well; there is nothing to do.\n")
	} else {
		d.writeFailures(w, domain, advice)
	}
	fmt.Fprintf(w, "\nThe attached file has the details for programs (JSON, compressed).\n"+
		"You get this because %s names you; questions go to\n%s.\n", RecordName(domain), i.Contact)
}

// name is the name of the policy in the text.
func (p *Policy) name() string {
	switch p.Type {
	case PolicyTLSA:
		return "your TLSA records (DANE)"
	case PolicyNone:
		return "no policy (none was found)"
	}
	for _, mode := range []string{"enforce", "testing"} {
		if slices.Contains(p.Strings, "mode: "+mode) {
			return "your MTA-STS policy (mode " + mode + ")"
		}
	}
	return "your MTA-STS policy (not to be had)"
}

func (d *summary) writeFailures(w io.Writer, domain string, advice func(code string) string) {
	kinds := slices.SortedFunc(maps.Keys(d.failures), func(a, b failureKind) int {
		return cmp.Or(cmp.Compare(d.failures[b].count, d.failures[a].count), cmp.Compare(a.host, b.host), cmp.Compare(a.kind, b.kind), cmp.Compare(a.code, b.code))
	})
	fmt.Fprint(w, "\nWhat failed:\n")
	for n, k := range kinds {
		if n == maxTold {
			fmt.Fprintf(w, "\n  and %d more kinds, which the attached file has\n", len(kinds)-n)
			break
		}
		sum := d.failures[k]
		fmt.Fprintf(w, "\n  %s\n    %d failed%s: %s%s\n", k.where(), sum.count, sum.when(), k.kind, k.why())
		for line := range strings.Lines(k.advice(domain, advice)) {
			fmt.Fprintf(w, "    %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
}

// when is the time of day of the failures.
func (f *failureSum) when() string {
	if f.first == 0 {
		return ""
	}
	first, last := time.Unix(f.first, 0).UTC().Format("15:04"), time.Unix(f.last, 0).UTC().Format("15:04")
	if first == last {
		return " at " + first + " UTC"
	}
	return " between " + first + " and " + last + " UTC"
}

func (k *failureKind) where() string {
	switch {
	case k.host != "":
		return k.host
	case k.kind == STSPolicyFetchError || k.kind == STSPolicyInvalid || k.kind == STSWebPKIInvalid:
		return "(the MTA-STS policy, before any host was contacted)"
	}
	return "(more hosts, summed)"
}

func (k *failureKind) why() string {
	if k.code == "" {
		return ""
	}
	return "\n    (" + strings.Join(strings.Fields(k.code), " ") + ")"
}

// unexplained is the advice for a failure without any other.
const unexplained = "The session did not pass."

// advice is what a failure means and its remedy; byCode has those of codes.
func (k *failureKind) advice(domain string, byCode func(code string) string) string {
	switch k.kind {
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
		return "This relay wants DANE for your domain, and the host has no TLSA\nrecords that can be used."
	case STSPolicyFetchError:
		return "The policy is announced and could not be fetched. Check\nhttps://mta-sts." + domain + "/.well-known/mta-sts.txt"
	case STSPolicyInvalid:
		return "The policy was fetched and is malformed. Check the text of\nhttps://mta-sts." + domain + "/.well-known/mta-sts.txt"
	case STSWebPKIInvalid:
		return "The certificate of the policy's web server does not hold: that of\nmta-sts." + domain + "."
	}
	if byCode != nil {
		if text := byCode(codeWord(k.code)); text != "" {
			return text
		}
	}
	return unexplained
}
