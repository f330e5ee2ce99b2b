package outbound

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
)

// NoAddress is a host that has no address. Another lookup would not help.
type NoAddress struct {
	Host string
	// Err is what the lookup said; nil where the name was not looked up.
	Err error

	why string
}

func (e *NoAddress) Error() string {
	if e.Err != nil {
		return e.Err.Error()
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

func (e *NotContacted) Error() string {
	if e.Family != "" {
		return fmt.Sprintf("%s has no %s address (%v), and no other is contacted (delivery.ip_family)", e.Host, e.Family, e.Addrs)
	}
	return fmt.Sprintf("%s has only private addresses (%v), which are not contacted (delivery.private_addresses)", e.Host, e.Addrs)
}

// LoopError is a host that is this relay itself, by its addresses.
type LoopError struct{ Host string }

func (e *LoopError) Error() string { return e.Host + " is this relay itself" }

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
		return dnsclient.Addrs{}, &NoAddress{Host: host, why: "the MX record holds the address " + host + " instead of the name of a host"}
	}
	if !private && (host == "localhost" || strings.HasSuffix(host, ".localhost")) { // RFC 6761, 6.3
		return dnsclient.Addrs{}, &NoAddress{Host: host, why: host + " is every machine's name for itself, and of no mail host"}
	}
	addrs, err := f.Resolver.Addrs(ctx, host)
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		return addrs, &NoAddress{Host: host, Err: err, why: host + " does not exist"}
	case errors.Is(err, dnsclient.ErrNoData):
		return addrs, &NoAddress{Host: host, Err: err, why: host + " has no address"}
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
// has an address. It is "" where one has, or where that cannot be told now.
func (f *Finder) Homeless(ctx context.Context, p *Plan, private bool) string {
	if p.From != FromMX && p.From != FromAddress || len(p.Hosts) == 0 || len(p.Hosts) > maxLookups {
		return ""
	}
	// The text should not change where the plan was shuffled.
	hosts := slices.SortedStableFunc(slices.Values(p.Hosts), func(a, b Host) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Name, b.Name))
	})
	var whys []string
	for _, h := range hosts {
		_, err := f.Lookup(ctx, h.Name, private)
		none, ok := errors.AsType[*NoAddress](err)
		if !ok {
			return ""
		}
		whys = append(whys, none.why)
	}
	if p.Implicit {
		return fmt.Sprintf("%s has no mail host: there is neither an MX record nor an address", p.Domain)
	}
	text := strings.Join(whys[:min(len(whys), maxTold)], ", ")
	if n := len(whys) - maxTold; n > 0 {
		text += fmt.Sprintf(" and %d more of the kind", n)
	}
	return fmt.Sprintf("%s has no mail host: %s", p.Domain, text)
}

// Forget lets the next lookups of a plan's domain and hosts go past the DNS cache.
func (f *Finder) Forget(p *Plan) {
	f.Resolver.Forget(p.Domain)
	for _, h := range p.Hosts {
		f.Resolver.Forget(h.Name)
	}
}
