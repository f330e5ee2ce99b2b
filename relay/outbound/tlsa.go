package outbound

import (
	"context"
	"fmt"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// TLSA finds the TLSA records that apply to a host, whose addresses were found as
// addrs (RFC 7672, 2.2). nil without an error: DANE does not apply. After an error,
// whether it does cannot be told, and the host must not be used.
func (f *Finder) TLSA(ctx context.Context, h Host, addrs dnsclient.Addrs) (*dane.RRset, error) {
	bases, err := baseDomains(ctx, f.Resolver, h.Name, addrs)
	if err != nil {
		return nil, err
	}
	for _, base := range bases {
		t, err := f.Resolver.TLSA(ctx, fmt.Sprintf("_%d._tcp.%s", h.Port, base))
		switch {
		case dnsclient.IsNotFound(err):
			continue
		case err != nil:
			return nil, err
		case !t.Secure:
			continue
		}
		records := make([]dane.Record, len(t.Records))
		for i, r := range t.Records {
			records[i] = dane.Record{Usage: r.Usage, Selector: r.Selector, MatchingType: r.MatchingType, Data: r.Data}
		}
		return dane.NewRRset(base, records), nil
	}
	return nil, nil
}

// baseDomains are the names whose TLSA records may be of host (RFC 7672, 2.2.2): the
// end of a secure alias chain, then the name itself. Where the chain leads into a
// zone that is not signed, the name itself counts if its own zone is.
func baseDomains(ctx context.Context, resolver *dnsclient.Client, host string, addrs dnsclient.Addrs) ([]string, error) {
	switch {
	case addrs.Secure && addrs.Name == host:
		return []string{host}, nil
	case addrs.Secure:
		return []string{addrs.Name, host}, nil
	case addrs.Name == host:
		return nil, nil // its zone is not signed, or nobody who is believed has checked
	}
	switch _, secure, err := resolver.Alias(ctx, host); {
	case dnsclient.IsNotFound(err):
		return nil, nil // an alias no more
	case err != nil || !secure:
		return nil, err
	}
	return []string{host}, nil
}
