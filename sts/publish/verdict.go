package publish

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/sts"
)

// Seen is what the DNS says of a domain. Each field that is nil or "" with an error beside
// it is not known.
type Seen struct {
	// MX are the domain's MX hosts, itself where it has an address and no MX record; none
	// where it has neither, and where NoMail is true: it says that it takes no mail (RFC 7505).
	MX      []string
	NoMail  bool
	MXError error
	// TXT are the records at _mta-sts.DOMAIN, each with its strings joined.
	TXT      []string
	TXTError error
	// Addresses are those of the policy host; none where it does not exist.
	Addresses    []netip.Addr
	AddressError error
	// TLSRPT are the records at _smtp._tls.DOMAIN.
	TLSRPT      []string
	TLSRPTError error
}

// State is what is to be judged.
type State struct {
	Domain Domain
	Host   Host
	Seen   Seen
	// KeptUntil is until when senders may keep what was served before under another id;
	// zero: that is not known.
	KeptUntil time.Time
	// AnyAddress is true where a proxy answers for the policy host: its addresses are not
	// ours to know.
	AnyAddress bool
}

// Judge returns what is not as it should be, faults first.
func Judge(s State) []Finding {
	f := &findings{domain: s.Domain.Name}
	s.judgeMX(f)
	s.judgeHost(f)
	s.judgeRecord(f)
	s.judgeTLSRPT(f)
	if w := Warning(s.Domain.Policy); !w.IsZero() {
		f.add("max-age", Advice, w)
	}
	Sort(f.list)
	return f.list
}

// judgeMX compares the policy with the MX hosts.
func (s *State) judgeMX(f *findings) {
	p := s.Domain.Policy
	switch {
	case p.Mode == sts.ModeNone:
		return
	case s.Seen.MXError != nil:
		f.add("mx-unknown", Waiting, phrase.New("its MX records cannot be looked up now: %v", s.Seen.MXError))
		return
	case s.Seen.NoMail:
		f.add("mx-none", Advice, phrase.New("its MX record says that it takes no mail (RFC 7505): there is nothing to protect"))
		return
	case len(s.Seen.MX) == 0:
		f.add("mx-none", Fault, phrase.New("it has no MX record: no mail comes in, and there is nothing to protect; set the MX records"))
		return
	}
	for _, host := range s.Seen.MX {
		if _, ok := p.Match(host); ok {
			continue
		}
		if w := nearWildcard(p, host); w != "" {
			_, parent, _ := strings.Cut(host, ".")
			f.add("mx-not-covered", Fault, phrase.New("%q does not cover %s: * stands for one label (RFC 8461, 4.1); use *.%s", w, host, parent))
			continue
		}
		f.add("mx-not-covered", Fault, phrase.New("mail host %s is in the DNS and not in the policy: senders that obey enforce will not use it; add it to mx, or take it out of the MX records", host))
	}
	for _, m := range p.MX {
		one := sts.Policy{MX: []string{m}}
		if !slices.ContainsFunc(s.Seen.MX, func(host string) bool { _, ok := one.Match(host); return ok }) {
			f.add("mx-not-there", Advice, phrase.New("%s is in the policy and matches no MX host; that does no harm, and it is right before a new host is set", m))
		}
	}
}

// nearWildcard finds the wildcard of a policy that someone may think covers host: host is
// below it by more than one label.
func nearWildcard(p *sts.Policy, host string) string {
	for _, m := range p.MX {
		if rest, ok := strings.CutPrefix(m, "*"); ok && strings.HasSuffix(strings.ToLower(host), rest) {
			return m
		}
	}
	return ""
}

// Unreachable says why nobody would find the policy host of a domain at the relay, "" where
// they would.
func Unreachable(domain string, host Host, seen Seen) (why string) {
	s := State{Domain: Domain{Name: domain}, Host: host, Seen: seen}
	var f findings
	s.judgeHost(&f)
	if len(f.list) > 0 {
		why = f.list[0].Text.String()
	}
	return why
}

// judgeHost looks at where the policy host leads.
func (s *State) judgeHost(f *findings) {
	name := PolicyHost(s.Domain.Name)
	set := phrase.New("set %s CNAME %s", name, s.Host.Name)
	if s.Host.Name == name {
		set = phrase.New("set the A and AAAA records of %s", name)
	}
	if s.Host.Name != name && len(s.Host.Addresses) == 0 {
		set = phrase.New("%s, and the A and AAAA records of %s, which has no address", set, s.Host.Name)
	}
	switch {
	case s.AnyAddress && len(s.Seen.Addresses) > 0:
	case s.Seen.AddressError != nil:
		f.add("address-unknown", Waiting, phrase.New("the address of %s cannot be looked up now: %v", name, s.Seen.AddressError))
	case len(s.Seen.Addresses) == 0:
		f.add("address", Waiting, phrase.New("%s does not exist: no certificate is ordered; %s", name, set))
	case len(s.Host.Addresses) == 0:
		f.add("address-unknown", Waiting, phrase.New("the address of %s is not known, so that nobody can say whether %s leads there: set [publisher] addresses", s.Host.Name, name))
	default:
		for _, a := range s.Seen.Addresses {
			if !slices.Contains(s.Host.Addresses, a) {
				f.add("address", Fault, phrase.New("%s has the address %s, which is none of this relay's (%s): no certificate is ordered; %s", name, a, list(s.Host.Addresses), set))
				return
			}
		}
	}
}

// judgeRecord compares the id in the DNS with that of what is served.
func (s *State) judgeRecord(f *findings) {
	id := ID(Text(s.Domain.Policy))
	where, set := "_mta-sts."+s.Domain.Name, phrase.New("set the record to %q", RecordText(id))
	if s.Domain.Record != "" {
		set = phrase.New("%s at %s, which it is a CNAME to", set, s.Domain.Record)
	}
	if s.Seen.TXTError != nil {
		f.add("record-unknown", Waiting, phrase.New("%s cannot be looked up now: %v", where, s.Seen.TXTError))
		return
	}
	record, err := sts.ParseRecord(s.Seen.TXT)
	switch {
	case errors.Is(err, sts.ErrNoRecord) && s.Domain.Record != "" && s.Domain.Record != where:
		f.add("record-missing", Waiting, phrase.New("%s does not exist: no sender asks for the policy; set %s CNAME %s, and there the TXT record %q", where, where, s.Domain.Record, RecordText(id)))
	case errors.Is(err, sts.ErrNoRecord):
		f.add("record-missing", Waiting, phrase.New("%s does not exist: no sender asks for the policy; %s", where, set))
	case err != nil:
		f.add("id", Fault, phrase.New("%s is not valid, which counts as none: %v; %s", where, err, set))
	case record.ID != id && !s.KeptUntil.IsZero():
		f.add("id", Fault, phrase.New("%s says id=%s, what is served is %s: senders keep the policy they have until %s UTC; %s", where, record.ID, id, s.KeptUntil.UTC().Format("2006-01-02 15:04"), set))
	case record.ID != id:
		f.add("id", Fault, phrase.New("%s says id=%s, what is served is %s: senders keep the policy they have; %s", where, record.ID, id, set))
	}
}

// judgeTLSRPT looks for the record that asks for reports.
func (s *State) judgeTLSRPT(f *findings) {
	if len(s.Domain.RUA) == 0 || s.Seen.TLSRPTError != nil {
		return
	}
	n, named := 0, false
	for _, t := range s.Seen.TLSRPT {
		if strings.HasPrefix(t, "v=TLSRPTv1") {
			n, named = n+1, named || strings.Contains(t, s.Domain.RUA[0])
		}
	}
	switch {
	case n > 1:
		f.add("tlsrpt", Advice, phrase.New("_smtp._tls.%s has %d records, of which senders take none (RFC 8460, 3): nobody reports what fails; name all addresses in one, with a comma between them", s.Domain.Name, n))
		return
	case named:
		return
	}
	f.add("tlsrpt", Advice, phrase.New("_smtp._tls.%s does not name %s: nobody reports what fails; set the record to \"v=TLSRPTv1; rua=%s\"", s.Domain.Name, s.Domain.RUA[0], strings.Join(s.Domain.RUA, ",")))
}

func list(addrs []netip.Addr) string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return strings.Join(out, ", ")
}
