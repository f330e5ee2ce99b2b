package acme

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

// DNS sets the TXT records of the challenge dns-01 by dynamic updates (RFC 2136), signed
// by TSIG (RFC 8945).
type DNS struct {
	// Server is "address:port" of the server that takes updates: the zone's primary.
	Server string
	// Name, Algorithm ("hmac-sha256") and Secret (base64) are of the key; Name "": updates
	// are not signed.
	Name, Algorithm, Secret string
	// Addresses returns the addresses ("address:port") of a name server by its name, none
	// where they are not known. The order waits until the zone's name servers have the
	// record; nil: it does not wait.
	Addresses func(ctx context.Context, host string) []string
}

const (
	// recordTTL is that of the records, in seconds.
	recordTTL = 60
	// tsigFudge is by how much clocks may differ, in seconds.
	tsigFudge = 300
)

// Present implements acmez.Solver.
func (d *DNS) Present(ctx context.Context, c acme.Challenge) error {
	if err := d.change(ctx, c, true); err != nil {
		return &updateError{err}
	}
	return nil
}

// CleanUp implements acmez.Solver.
func (d *DNS) CleanUp(ctx context.Context, c acme.Challenge) error { return d.change(ctx, c, false) }

// updateError is why a record could not be set.
type updateError struct{ err error }

func (e *updateError) Error() string { return "dns-01: " + e.err.Error() }
func (e *updateError) Unwrap() error { return e.err }

// change adds or removes the record of a challenge.
func (d *DNS) change(ctx context.Context, c acme.Challenge, add bool) error {
	name, zone, err := d.find(ctx, dns.Fqdn(c.DNS01TXTRecordName()))
	if err != nil {
		return err
	}
	rr := &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: recordTTL}, Txt: []string{c.DNS01KeyAuthorization()}}
	m := new(dns.Msg)
	m.SetUpdate(zone)
	if add {
		m.Insert([]dns.RR{rr})
	} else {
		m.Remove([]dns.RR{rr})
	}
	answer, err := d.ask(ctx, m)
	switch {
	case err != nil:
		return fmt.Errorf("update of %s at %s: %w", name, d.Server, err)
	case answer.Rcode == dns.RcodeSuccess:
		return nil
	case d.Name == "":
		return fmt.Errorf("%s refuses the update of %s in the zone %s (%s): it is not signed; set [acme.dns] tsig_name and tsig_secret_file", d.Server, name, zone, dns.RcodeToString[answer.Rcode])
	}
	return fmt.Errorf("%s refuses the update of %s in the zone %s with the key %s (%s): allow this key to change TXT records there", d.Server, name, zone, d.Name, dns.RcodeToString[answer.Rcode])
}

// find follows the aliases of a name, as the authority does, and finds the zone of its end.
func (d *DNS) find(ctx context.Context, name string) (end, zone string, err error) {
	for range 8 {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeCNAME)
		answer, err := d.ask(ctx, m)
		if err != nil {
			return "", "", fmt.Errorf("ask %s for %s: %w", d.Server, name, err)
		}
		alias := ""
		for _, rr := range answer.Answer {
			if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(c.Hdr.Name, name) {
				alias = c.Target
			}
		}
		if alias == "" {
			zone, err = d.zone(ctx, name)
			return name, zone, err
		}
		name = dns.Fqdn(alias)
	}
	return "", "", fmt.Errorf("%s has too many aliases", name)
}

// zone finds the zone that a name is in: the nearest name with an SOA record.
func (d *DNS) zone(ctx context.Context, name string) (string, error) {
	for i, end := 0, false; !end; i, end = dns.NextLabel(name, i) {
		m := new(dns.Msg)
		m.SetQuestion(name[i:], dns.TypeSOA)
		answer, err := d.ask(ctx, m)
		if err != nil {
			return "", fmt.Errorf("ask %s for the zone of %s: %w", d.Server, name, err)
		}
		for _, rr := range answer.Answer {
			if rr.Header().Rrtype == dns.TypeSOA {
				return rr.Header().Name, nil
			}
		}
	}
	return "", fmt.Errorf("%s has no zone of %s", d.Server, name)
}

// ask sends a question or an update over TCP, signed where there is a key.
func (d *DNS) ask(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	client := &dns.Client{Net: "tcp", Timeout: 10 * time.Second}
	if d.Name != "" {
		key := dns.CanonicalName(d.Name)
		client.TsigSecret = map[string]string{key: d.Secret}
		m.SetTsig(key, dns.Fqdn(d.Algorithm), tsigFudge, time.Now().Unix())
	}
	answer, _, err := client.ExchangeContext(ctx, m, d.Server)
	if answer == nil || answer.IsTsig() == nil {
		return answer, err
	}
	// Knot says BADKEY of an update also where it knows the key, which may not update. The
	// question before it has shown that the key is known.
	problem := answer.IsTsig().Error
	if m.Opcode == dns.OpcodeUpdate && problem == dns.RcodeBadKey {
		return answer, nil
	}
	if why, ok := tsigProblems[problem]; ok {
		return nil, fmt.Errorf("it does not accept the TSIG key %s: %s", d.Name, why)
	}
	return answer, err
}

// tsigProblems say what to do about the errors of RFC 8945, 3.
var tsigProblems = map[uint16]string{
	dns.RcodeBadSig:  "its secret is another one (BADSIG); look at the file of tsig_secret_file",
	dns.RcodeBadKey:  "it knows no such key (BADKEY); look at tsig_name and tsig_algorithm",
	dns.RcodeBadTime: "the clocks differ by more than five minutes (BADTIME)",
}
