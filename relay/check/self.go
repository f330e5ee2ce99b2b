package check

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"blitiri.com.ar/go/spf"

	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/publicaddr"
	"github.com/stsrelay/stsrelay/internal/webfetch"
)

const (
	// maxProbes is the number of domains whose hosts are dialed to see whether mail can
	// leave, and whose policy hosts are asked for the time.
	maxProbes = 5
	// wrongClock is how far the clock may be from that of others.
	wrongClock = time.Minute
)

// SelfOptions configures Self.
type SelfOptions struct {
	Options
	// Domains are some that mail goes to. Their mail hosts show whether port 25 is open,
	// and their policy hosts have the time.
	Domains []string
	// Senders are the domains in whose name mail is sent.
	Senders []string
	// Keys are the DKIM keys in use, with the services that each signs for.
	Keys []SelfKey
	// NoCertificate reports whether the relay's certificate is self-signed.
	NoCertificate bool
}

// SelfKey is a DKIM key and the kinds of mail that it signs, "reports" and "mail".
type SelfKey struct {
	*dkim.Key
	Kinds []string
}

// SelfReport is how the relay looks from outside, and whether hosts will take its mail.
// It is plain data.
type SelfReport struct {
	Hostname string    `json:"hostname"`
	At       time.Time `json:"at"`
	// Good is what is in order.
	Good     []string  `json:"good"`
	Problems []Problem `json:"problems"`
}

// Ready reports whether nothing was found that makes hosts refuse mail.
func (r *SelfReport) Ready() bool {
	return !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Severity == Fault })
}

// Text writes the report for people, with colours where they are wanted.
func (r *SelfReport) Text(w io.Writer, colour bool) error {
	t := &text{colour: colour}
	t.line("%s  checked %s", t.paint(bold, r.Hostname), r.At.Format(time.DateTime)+" UTC")
	t.b.WriteByte('\n')
	for _, g := range r.Good {
		t.mark("ok", g)
	}
	t.problems(r.Problems)
	_, err := io.WriteString(w, t.b.String())
	return err
}

// Self checks the relay itself: the resolver first, without which it judges nothing; then its name, whether port 25 is open to the outside, its
// clock, and what its domains publish about it. Nothing is sent.
func Self(ctx context.Context, o SelfOptions) *SelfReport {
	o.Options = o.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	s := &self{SelfOptions: o}
	if err := o.Resolver.Answers(ctx); err != nil {
		var f findings
		f.bad(Fault, "no resolver answers: "+err.Error()+". Nothing else can be told without one, and no mail can leave", "RFC 1034, 5.3.1",
			"start the resolver, or name one that works in dns.servers; then check again")
		return &SelfReport{Hostname: o.Hostname, At: o.Now().UTC(), Good: []string{}, Problems: f.problems}
	}
	addrs := s.name(ctx)
	steps := []func() findings{
		func() findings { return s.wayOut(ctx) },
		func() findings { return s.clock(ctx) },
		func() findings { return s.spf(ctx, addrs.addrs) },
		func() findings { return s.keys(ctx) },
		func() findings { return s.dmarc(ctx) },
		func() findings { return s.resolvers(ctx) },
	}
	found := make([]findings, len(steps))
	var wg sync.WaitGroup
	for i, step := range steps {
		wg.Go(func() { found[i] = step() })
	}
	wg.Wait()
	r := &SelfReport{Hostname: o.Hostname, At: o.Now().UTC(), Good: addrs.good, Problems: append([]Problem{}, addrs.problems...)}
	for _, f := range found {
		r.Good, r.Problems = append(r.Good, f.good...), append(r.Problems, f.problems...)
	}
	if r.Good == nil {
		r.Good = []string{}
	}
	return r
}

type self struct{ SelfOptions }

// findings are the result of one step of Self.
type findings struct {
	good     []string
	problems []Problem
	addrs    []netip.Addr // of the hostname
}

func (f *findings) ok(format string, args ...any) {
	f.good = append(f.good, fmt.Sprintf(format, args...))
}

// bad notes a problem, in English alone: nothing but the command line shows it.
func (f *findings) bad(s Severity, text, rule, remedy string) {
	f.problems = append(f.problems, Problem{Severity: s, Text: phrase.Quote(text), Rule: rule, Remedy: phrase.Quote(remedy)})
}

// name checks the hostname as hosts do that get it in EHLO: it must have addresses, and
// their PTR records must lead back to it.
func (s *self) name(ctx context.Context) (f findings) {
	const rule = "RFC 5321, 4.1.1.1"
	found, err := s.Resolver.Addrs(ctx, s.Hostname)
	if err != nil {
		f.bad(Fault, fmt.Sprintf("the name %s, which the relay greets with, has no address: %v", s.Hostname, err), rule,
			"publish an A record for it with the address that mail comes from, or set hostname to a name that has one; many hosts refuse others")
		return f
	}
	for _, a := range found.Addrs {
		a = a.Unmap()
		f.addrs = append(f.addrs, a)
		if !s.AllowPrivate && !publicaddr.Public(a) {
			f.bad(Warning, fmt.Sprintf("the name %s has the private address %s in the DNS that is asked here", s.Hostname, a), rule,
				"see that the Internet finds the public address that mail comes from")
			continue
		}
		names, err := s.Resolver.Names(ctx, a)
		switch {
		case err != nil:
			f.bad(Fault, fmt.Sprintf("the address %s of %s leads back to no name: %v", a, s.Hostname, err), "RFC 1912, 2.1",
				"let the provider of the address publish a PTR record that says "+s.Hostname+"; many hosts refuse mail without")
		case !slices.Contains(names, s.Hostname):
			f.bad(Warning, fmt.Sprintf("the address %s of %s leads back to %s", a, s.Hostname, strings.Join(names, ", ")), "RFC 1912, 2.1",
				"let the provider of the address publish a PTR record that says "+s.Hostname)
		default:
			f.ok("%s has the address %s, which leads back to it", s.Hostname, a)
		}
	}
	return f
}

// wayOut checks whether port 25 of other hosts can be reached: many providers block it.
func (s *self) wayOut(ctx context.Context) (f findings) {
	if len(s.Domains) == 0 {
		f.bad(Note, "whether port 25 is open to the outside was not tried: it is not known where mail goes", "RFC 5321, 4.5.4.2",
			"name a domain that mail goes to: stsrelay check --self DOMAIN")
		return f
	}
	dialer := s.dialer()
	var failed []string
	for _, d := range s.probes() {
		host := d
		if mx, err := s.Resolver.MX(ctx, d); err == nil && mx.Records[0].Host != "." {
			host = mx.Records[0].Host
		}
		found, err := s.Resolver.Addrs(ctx, host)
		if err != nil {
			continue // that says nothing about port 25
		}
		for _, a := range found.Addrs[:min(len(found.Addrs), 2)] {
			conn, _, _, err := dialer.Dial(ctx, []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), 25)}, min(s.ConnectTimeout, s.Timeout/3))
			if err == nil {
				conn.Close()
				f.ok("port 25 is open to the outside: %s [%s] answers", host, a.Unmap())
				return f
			}
			failed = append(failed, fmt.Sprintf("%s [%s]: %v", host, a.Unmap(), err))
		}
	}
	if len(failed) > 0 {
		f.bad(Fault, "no host could be reached on port 25: "+strings.Join(failed, "; "), "RFC 5321, 4.5.4.2",
			"many providers of networks and clouds block port 25 to the outside: ask yours to open it; look at the firewall too")
	}
	return f
}

func (s *self) probes() []string { return s.Domains[:min(len(s.Domains), maxProbes)] }

// clock compares the clock with those of policy hosts. With a wrong clock good
// certificates look expired.
func (s *self) clock(ctx context.Context) (f findings) {
	for _, d := range s.probes() {
		host := "mta-sts." + d
		theirs, err := s.timeAt(ctx, host)
		if err != nil {
			continue // that says nothing about the clock
		}
		if off := theirs.Sub(s.Now()).Round(time.Second); off.Abs() > wrongClock {
			f.bad(Fault, fmt.Sprintf("the clock of this machine differs from that of %s by %s", host, off.Abs()), "RFC 5280, 4.1.2.5",
				"set the clock, and let it be kept right (NTP): with a wrong one good certificates look expired, and mail waits")
		} else {
			f.ok("the clock agrees with that of %s", host)
		}
		return f
	}
	return f
}

// timeAt asks a web server what time it is.
func (s *self) timeAt(ctx context.Context, host string) (time.Time, error) {
	web := webfetch.New(webfetch.Options{
		LookupAddrs: func(ctx context.Context, host string) ([]netip.Addr, error) {
			found, err := s.Resolver.Addrs(ctx, host)
			return found.Addrs, err
		},
		DialContext: s.Dial, AllowPrivate: func() bool { return s.AllowPrivate },
		Insecure: true, // only the time is asked, and a wrong clock makes any certificate look bad
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+host+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return time.Time{}, err
	}
	exchange, err := web.Do(req)
	if err != nil {
		return time.Time{}, err
	}
	exchange.Answer.Body.Close()
	return http.ParseTime(exchange.Answer.Header.Get("Date"))
}

// spf asks whether the senders' domains allow the relay's addresses.
func (s *self) spf(ctx context.Context, addrs []netip.Addr) (f findings) {
	from := s.SourceIPs
	if len(from) == 0 {
		from = addrs
	}
	for _, d := range s.Senders {
		for _, a := range from {
			result, err := spf.CheckHostWithSender(a.AsSlice(), s.Hostname, "postmaster@"+d, spf.WithContext(ctx), spf.WithResolver(spfResolver{s.Resolver}))
			const rule = "RFC 7208, 2.6"
			switch result {
			case spf.Pass:
				f.ok("the SPF record of %s allows %s", d, a)
			case spf.None:
				f.bad(Warning, d+" has no SPF record", rule, fmt.Sprintf("publish a TXT record at %s such as \"v=spf1 a:%s -all\"", d, s.Hostname))
			case spf.Fail, spf.SoftFail, spf.Neutral:
				f.bad(Fault, fmt.Sprintf("the SPF record of %s does not allow %s (%s)", d, a, result), rule,
					fmt.Sprintf("add a:%s to it, or the address that mail comes from; many hosts refuse mail without", s.Hostname))
			default:
				f.bad(Warning, fmt.Sprintf("the SPF record of %s cannot be evaluated: %s %v", d, result, err), rule, "see that it is well formed and needs at most ten lookups")
			}
		}
	}
	return f
}

// keys looks at the records of the DKIM keys.
func (s *self) keys(ctx context.Context) (f findings) {
	for _, k := range s.Keys {
		switch found, err := k.Problem(ctx, s.Resolver.FreshTXT, k.Kinds); {
		case err != nil:
			f.bad(Warning, fmt.Sprintf("the record of the DKIM key %s cannot be looked up: %v", k.RecordName(), err), "RFC 6376, 3.6.2", "try again")
		case found.Text != "":
			severity := Fault
			if found.Works {
				severity = Warning
			}
			f.bad(severity, fmt.Sprintf("the record of the DKIM key %s: %s", k.RecordName(), found.Text), "RFC 6376, 3.6.1", "stsrelay report setup prints the record to publish")
		default:
			f.ok("the DKIM key %s is published", k.RecordName())
		}
	}
	return f
}

// resolvers checks whether the resolvers validate DNSSEC, and whether the relay has a
// certificate of its own.
func (s *self) resolvers(ctx context.Context) (f findings) {
	s.Resolver.Probe(ctx)
	const remedy = "use a resolver on this machine that validates DNSSEC (unbound, for one), or DNS over TLS to one that does: dns.servers, dns.trust_ad"
	var protecting, why []string
	for _, r := range s.Resolver.Servers() {
		if r.Protects() {
			protecting = append(protecting, r.Address)
		}
		why = append(why, r.Address+" ("+r.Why.String()+")")
		if r.Believed && r.Validation == dnsclient.NotKnown && !s.NoDANE {
			f.bad(Warning, fmt.Sprintf("the resolver %s has no answer for the root zone: whether it validates DNSSEC cannot be told", r.Address), "RFC 7672, 2.1",
				"see that it runs and reaches the Internet")
		}
	}
	switch {
	case s.NoDANE:
	case len(protecting) > 0:
		f.ok("DANE is on: believed to validate DNSSEC: %s", strings.Join(protecting, ", "))
	default:
		f.bad(Warning, "DANE is off: no resolver is believed to validate DNSSEC: "+strings.Join(why, ", "), "RFC 7672, 2.1", remedy)
	}
	if s.NoCertificate {
		f.bad(Note, "the relay's own certificate is self-made", "tls.certificate", "nothing, unless a server that hands over mail verifies it; then set tls.certificate and tls.key")
	}
	return f
}

// spfResolver is a resolver in the form of package spf.
type spfResolver struct{ c *dnsclient.Client }

// none turns the error that there is nothing into no records.
func none[T any](records []T, err error) ([]T, error) {
	if dnsclient.IsNotFound(err) {
		return nil, nil
	}
	return records, err
}

// LookupTXT implements spf.DNSResolver, as the others do.
func (r spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return r.c.FreshTXT(ctx, strings.TrimSuffix(name, "."))
}

// LookupMX implements spf.DNSResolver.
func (r spfResolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	m, err := r.c.MX(ctx, strings.TrimSuffix(name, "."))
	var out []*net.MX
	for _, x := range m.Records {
		out = append(out, &net.MX{Host: x.Host + ".", Pref: x.Preference})
	}
	return none(out, err)
}

// LookupIPAddr implements spf.DNSResolver.
func (r spfResolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	a, err := r.c.Addrs(ctx, strings.TrimSuffix(host, "."))
	var out []net.IPAddr
	for _, x := range a.Addrs {
		out = append(out, net.IPAddr{IP: x.Unmap().AsSlice()})
	}
	return none(out, err)
}

// LookupAddr implements spf.DNSResolver.
func (r spfResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	return none(r.c.Names(ctx, a))
}
