package outbound

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// NoAddress is a host that has no address. Another lookup would not help.
type NoAddress struct {
	Host string
	// Err is what the lookup said; nil where the name was not looked up.
	Err error

	why phrase.Phrase
}

func (e *NoAddress) Error() string { return e.Phrase().String() }

// Phrase is the text of the error.
func (e *NoAddress) Phrase() phrase.Phrase {
	if e.Err != nil {
		return phrase.Of(e.Err)
	}
	return e.why
}

func (e *NoAddress) Unwrap() error { return e.Err }

// Addresses are those of a host.
type Addresses struct {
	// Addrs is what the DNS says; without aliases where the host is an address.
	dnsclient.Addrs
	// Admitted are the addresses that may be contacted. OtherFamily are left out by
	// Reach.Family, Private by Reach.Private.
	Admitted, OtherFamily, Private []netip.Addr
}

// NotContacted is a host that has addresses, but none that may be contacted.
type NotContacted struct {
	Host   string
	Addrs  []netip.Addr
	Family IPFamily // the only one that is contacted; "" where they are private
}

func (e *NotContacted) Error() string { return e.Phrase().String() }

// Phrase is the text of the error.
func (e *NotContacted) Phrase() phrase.Phrase {
	if e.Family != "" {
		return phrase.New("%s has no %s address (%v), and no other is contacted (delivery.ip_family)", e.Host, e.Family, e.Addrs)
	}
	return phrase.New("%s has only private addresses (%v), which are not contacted (delivery.private_addresses)", e.Host, e.Addrs)
}

// LoopError is a host that is this relay itself, by its addresses.
type LoopError struct{ Host string }

func (e *LoopError) Error() string { return e.Phrase().String() }

// Phrase is the text of the error.
func (e *LoopError) Phrase() phrase.Phrase { return phrase.New("%s is this relay itself", e.Host) }

// Addresses finds the addresses of a host that may be contacted. The error is a
// *NoAddress, a *NotContacted, a *LoopError, or a *dnsclient.Error where there is no
// answer now. What is known of the addresses is returned with an error too.
func (f *Finder) Addresses(ctx context.Context, h Host, reach Reach) (Addresses, error) {
	out := Addresses{Addrs: dnsclient.Addrs{Name: h.Name, Addrs: []netip.Addr{h.Addr}}}
	if !h.Addr.IsValid() {
		var err error
		if out.Addrs, err = f.Lookup(ctx, h.Name, reach.Private); err != nil {
			return out, err
		}
	}
	for _, addr := range out.Addrs.Addrs {
		switch addr = addr.Unmap(); {
		case !reach.Family.Admits(addr):
			out.OtherFamily = append(out.OtherFamily, addr)
		case !reach.Admits(addr):
			out.Private = append(out.Private, addr)
		default:
			out.Admitted = append(out.Admitted, addr)
		}
	}
	switch {
	case len(out.Admitted) == 0 && len(out.Private) == 0:
		return out, &NotContacted{Host: h.Name, Addrs: out.Addrs.Addrs, Family: reach.Family}
	case len(out.Admitted) == 0:
		return out, &NotContacted{Host: h.Name, Addrs: out.Addrs.Addrs}
	case f.isSelf(h.Name, h.Port, out.Admitted):
		return out, &LoopError{Host: h.Name}
	}
	return out, nil
}

// Lookup looks up the addresses of a host that an MX record names. private reports
// whether hosts of private networks are contacted. The error is a *NoAddress, or a
// *dnsclient.Error where there is no answer now.
func (f *Finder) Lookup(ctx context.Context, host string, private bool) (dnsclient.Addrs, error) {
	if holdsAddress(host) { // RFC 5321, 5.1: an MX record names a host
		return dnsclient.Addrs{}, &NoAddress{Host: host, why: phrase.New("the MX record holds the address %s instead of the name of a host", host)}
	}
	if !private && (host == "localhost" || strings.HasSuffix(host, ".localhost")) { // RFC 6761, 6.3
		return dnsclient.Addrs{}, &NoAddress{Host: host, why: phrase.New("%s is every machine's name for itself, and of no mail host", host)}
	}
	addrs, err := f.Resolver.Addrs(ctx, host)
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		return addrs, &NoAddress{Host: host, Err: err, why: phrase.New("%s does not exist", host)}
	case errors.Is(err, dnsclient.ErrNoData):
		return addrs, &NoAddress{Host: host, Err: err, why: phrase.New("%s has no address", host)}
	}
	return addrs, err
}

// holdsAddress reports whether a name is an address, with brackets or without.
func holdsAddress(name string) bool {
	if !strings.ContainsAny(name, `:[]\`) && (name == "" || name[len(name)-1] > '9') {
		return false // the usual case
	}
	name = strings.ReplaceAll(name, `\`, "") // the dots of a single label
	_, err := netip.ParseAddr(strings.TrimPrefix(strings.Trim(name, "[]"), "ipv6:"))
	return err == nil
}

const (
	// maxLookups is how many hosts are looked up to find out that none has an address. A
	// domain that has more hosts is taken to have an address.
	maxLookups = 40
	// maxTold is how many of them the text names.
	maxTold = 5
)

// Homeless tells why a domain has no mail host: none of the hosts that it publishes
// has an address. It is no text where one has, or where that cannot be told now.
func (f *Finder) Homeless(ctx context.Context, p *Plan, private bool) phrase.Phrase {
	if p.From != FromMX && p.From != FromAddress || len(p.Hosts) == 0 || len(p.Hosts) > maxLookups {
		return phrase.Phrase{}
	}
	// The text should not change where the plan was shuffled.
	hosts := slices.SortedStableFunc(slices.Values(p.Hosts), func(a, b Host) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Name, b.Name))
	})
	var whys []phrase.Phrase
	for _, h := range hosts {
		_, err := f.Lookup(ctx, h.Name, private)
		none, ok := errors.AsType[*NoAddress](err)
		if !ok {
			return phrase.Phrase{}
		}
		whys = append(whys, none.why)
	}
	if p.Implicit {
		return phrase.New("%s has no mail host: there is neither an MX record nor an address", p.Domain)
	}
	text := phrase.Join(whys[:min(len(whys), maxTold)], ", ")
	if n := len(whys) - maxTold; n > 0 {
		text = phrase.New("%s and %d more of the kind", text, n)
	}
	return phrase.New("%s has no mail host: %s", p.Domain, text)
}

// NoHost tells why no host takes mail for a domain: its name does not exist, it has a null MX,
// or none of its hosts has an address. It is nil where there is a host, or where that cannot be
// told now.
func (f *Finder) NoHost(ctx context.Context, domain string, private bool) error {
	plan, err := f.Find(ctx, &Destination{Domain: domain})
	if denied, ok := errors.AsType[*Denial](err); ok {
		return denied
	}
	if why := f.Homeless(ctx, &plan, private); err == nil && !why.IsZero() {
		return &Denial{Reason: failure.NoHost, Text: why}
	}
	return nil
}

// Forget lets the next lookups of a plan's domain and hosts go past the DNS cache.
func (f *Finder) Forget(p *Plan) {
	f.Resolver.Forget(p.Domain)
	for _, h := range p.Hosts {
		f.Resolver.Forget(h.Name)
	}
}
