package acme

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

const (
	// spreadTime bounds the wait for the zone's name servers. Then the order goes on: one of
	// them may not be reached from here, and the authority decides.
	spreadTime = time.Minute
	// spreadCheck is how often they are asked.
	spreadCheck = time.Second
)

// Wait implements acmez.Waiter: the authority asks any of the zone's name servers, and those
// beside the primary get a change some seconds later.
func (d *DNS) Wait(ctx context.Context, c acme.Challenge) error {
	if d.Addresses == nil {
		return nil
	}
	name, zone, err := d.find(ctx, dns.Fqdn(c.DNS01TXTRecordName()))
	if err != nil {
		return err
	}
	missing := d.servers(ctx, zone)
	bounded, cancel := context.WithTimeout(ctx, spreadTime)
	defer cancel()
	t := time.NewTicker(spreadCheck)
	defer t.Stop()
	for {
		missing = slices.DeleteFunc(missing, func(server string) bool { return has(bounded, server, name, c.DNS01KeyAuthorization()) })
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-bounded.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// servers are the addresses of the zone's name servers that can be looked up.
func (d *DNS) servers(ctx context.Context, zone string) (out []string) {
	m := new(dns.Msg)
	m.SetQuestion(zone, dns.TypeNS)
	answer, err := d.ask(ctx, m)
	if err != nil {
		return nil
	}
	for _, rr := range answer.Answer {
		if ns, ok := rr.(*dns.NS); ok {
			out = append(out, d.Addresses(ctx, ns.Ns)...)
		}
	}
	return out
}

// has reports whether a name server has a TXT record.
func has(ctx context.Context, server, name, text string) bool {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	client := &dns.Client{Net: "tcp", Timeout: 5 * time.Second, Dialer: &net.Dialer{Timeout: 5 * time.Second}}
	answer, _, err := client.ExchangeContext(ctx, m, server)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(answer.Answer, func(rr dns.RR) bool {
		txt, ok := rr.(*dns.TXT)
		return ok && slices.Contains(txt.Txt, text)
	})
}
