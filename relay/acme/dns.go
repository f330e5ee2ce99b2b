package acme

import (
	"context"
	"errors"
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
}

const (
	// recordTTL is that of the records, in seconds.
	recordTTL = 60
	// tsigFudge is by how much clocks may differ, in seconds.
	tsigFudge = 300
)

// Present implements acmez.Solver.
func (d *DNS) Present(ctx context.Context, c acme.Challenge) error { return d.change(ctx, c, true) }

// CleanUp implements acmez.Solver.
func (d *DNS) CleanUp(ctx context.Context, c acme.Challenge) error { return d.change(ctx, c, false) }

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
	if err != nil {
		return fmt.Errorf("dns-01: update of %s at %s: %w", name, d.Server, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("dns-01: %s refuses the update of %s in the zone %s: %s", d.Server, name, zone, dns.RcodeToString[answer.Rcode])
	}
	return nil
}

// find follows the aliases of a name, as the authority does, and finds the zone of its end.
func (d *DNS) find(ctx context.Context, name string) (end, zone string, err error) {
	for range 8 {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeCNAME)
		answer, err := d.ask(ctx, m)
		if err != nil {
			return "", "", fmt.Errorf("dns-01: ask %s for %s: %w", d.Server, name, err)
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
	return "", "", fmt.Errorf("dns-01: %s has too many aliases", name)
}

// zone finds the zone that a name is in: the nearest name with an SOA record.
func (d *DNS) zone(ctx context.Context, name string) (string, error) {
	for i, end := 0, false; !end; i, end = dns.NextLabel(name, i) {
		m := new(dns.Msg)
		m.SetQuestion(name[i:], dns.TypeSOA)
		answer, err := d.ask(ctx, m)
		if err != nil {
			return "", fmt.Errorf("dns-01: ask %s for the zone of %s: %w", d.Server, name, err)
		}
		for _, rr := range answer.Answer {
			if rr.Header().Rrtype == dns.TypeSOA {
				return rr.Header().Name, nil
			}
		}
	}
	return "", fmt.Errorf("dns-01: %s has no zone of %s", d.Server, name)
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
	if errors.Is(err, dns.ErrAuth) {
		return nil, fmt.Errorf("the TSIG key %s is not accepted: %w", d.Name, err)
	}
	return answer, err
}
