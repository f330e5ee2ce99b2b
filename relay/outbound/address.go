package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
)

// NoAddress is a host that has no address: more lookups do not help.
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

// Addresses looks up the addresses of a host that an MX record names. private says
// that hosts of private networks are contacted. The error is a *NoAddress, or a
// *dnsclient.Error where there is no answer now.
func Addresses(ctx context.Context, resolver *dnsclient.Client, host string, private bool) (dnsclient.Addrs, error) {
	if holdsAddress(host) { // RFC 5321, 5.1: an MX record names a host
		return dnsclient.Addrs{}, &NoAddress{Host: host, why: "the MX record holds the address " + host + " instead of the name of a host"}
	}
	if !private && (host == "localhost" || strings.HasSuffix(host, ".localhost")) { // RFC 6761, 6.3
		return dnsclient.Addrs{}, &NoAddress{Host: host, why: host + " is every machine's name for itself, and of no mail host"}
	}
	addrs, err := resolver.Addrs(ctx, host)
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		return addrs, &NoAddress{Host: host, Err: err, why: host + " does not exist"}
	case errors.Is(err, dnsclient.ErrNoData):
		return addrs, &NoAddress{Host: host, Err: err, why: host + " has no address"}
	}
	return addrs, err
}

// holdsAddress reports whether a name is an address, written with brackets or
// without.
func holdsAddress(name string) bool {
	name = strings.ReplaceAll(name, `\`, "") // the dots of a single label
	_, err := netip.ParseAddr(strings.TrimPrefix(strings.Trim(name, "[]"), "ipv6:"))
	return err == nil
}

const (
	// maxLookups bounds the hosts that are looked up to find out that none has an
	// address. No domain has more in earnest; one that does is taken to have one.
	maxLookups = 40
	// maxTold is how many of them are told of.
	maxTold = 5
)

// Homeless says why a domain has no mail host: none of its hosts has an address. It
// is "" where one has, or where that cannot be told now.
func (p *Plan) Homeless(ctx context.Context, resolver *dnsclient.Client, domain string, private bool) string {
	if len(p.Hosts) == 0 || len(p.Hosts) > maxLookups {
		return ""
	}
	var whys []string
	for _, h := range p.Hosts {
		_, err := Addresses(ctx, resolver, h.Name, private)
		none, ok := errors.AsType[*NoAddress](err)
		if !ok {
			return ""
		}
		whys = append(whys, none.why)
	}
	if p.Implicit {
		return fmt.Sprintf("%s has no mail host: there is neither an MX record nor an address", domain)
	}
	text := strings.Join(whys[:min(len(whys), maxTold)], ", ")
	if n := len(whys) - maxTold; n > 0 {
		text += fmt.Sprintf(" and %d more of the kind", n)
	}
	return fmt.Sprintf("%s has no mail host: %s", domain, text)
}

// Forget lets the next lookups of a domain and its hosts go past the DNS cache.
func (p *Plan) Forget(resolver *dnsclient.Client, domain string) {
	resolver.Forget(domain)
	for _, h := range p.Hosts {
		resolver.Forget(h.Name)
	}
}
