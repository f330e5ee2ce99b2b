package dnsclient

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// TXT is the TXT records of a name.
type TXT struct {
	// Records are the records, the strings of each joined (RFC 7208, 3.3), as
	// raw bytes.
	Records []string
	Secure  bool
	TTL     time.Duration
	CNAME   string // the end of the alias chain, "" without one
}

// MX is one mail exchanger, its name in lower case without final dot; the null
// MX (RFC 7505) is ".".
type MX struct {
	Host       string
	Preference uint16
}

// MXs is the MX records of a name, by preference and name.
type MXs struct {
	Records []MX
	Secure  bool
	TTL     time.Duration
	CNAME   string
}

// Addrs is the addresses of a host, of both families.
type Addrs struct {
	Addrs []netip.Addr
	// Secure reports whether every answer was validated, that of a family without
	// addresses too.
	Secure bool
	Name   string // the end of the alias chain
	TTL    time.Duration
}

// TLSARecord is a TLSA record (RFC 6698, 2.1).
type TLSARecord struct {
	Usage, Selector, MatchingType uint8
	Data                          []byte
}

// TLSA is the TLSA records of a name.
type TLSA struct {
	Records []TLSARecord
	Secure  bool
	Name    string // the end of the alias chain
	TTL     time.Duration
}

// maxCAA bounds the CAA records of a name that are kept.
const maxCAA = 50

// CAA is a CAA record (RFC 8659, 4.1), its tag in lower case.
type CAA struct{ Tag, Value string }

// CAA looks up CAA records past the cache. It is no error where there are none.
func (c *Client) CAA(ctx context.Context, name string) ([]CAA, error) {
	a, err := c.lookup(ctx, name, dns.TypeCAA, true)
	switch {
	case errors.Is(err, ErrNXDomain) || errors.Is(err, ErrNoData):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return slices.Clone(a.records.caa), nil
}

// TXT looks up TXT records; fresh goes past the cache. The error is an *Error.
func (c *Client) TXT(ctx context.Context, name string, fresh bool) (TXT, error) {
	a, err := c.lookup(ctx, name, dns.TypeTXT, fresh)
	if err != nil {
		return TXT{}, err
	}
	return TXT{Records: slices.Clone(a.records.txt), Secure: a.secure, TTL: a.ttl, CNAME: a.alias}, nil
}

// RememberSilentTXT caches for minutes that a question for the TXT records of a name had
// no answer, so that not every caller waits for one. Only a caller for which the answer
// does not matter for security may call it.
func (c *Client) RememberSilentTXT(name string) { c.rememberSilence(name, dns.TypeTXT) }

// FreshTXT looks up TXT records past the cache. It is no error where there are none.
func (c *Client) FreshTXT(ctx context.Context, name string) ([]string, error) {
	t, err := c.TXT(ctx, name, true)
	if errors.Is(err, ErrNXDomain) || errors.Is(err, ErrNoData) {
		return nil, nil
	}
	return t.Records, err
}

// Names looks up the names of an address (PTR records). The error is an *Error.
func (c *Client) Names(ctx context.Context, addr netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(addr.Unmap().String())
	if err != nil {
		return nil, &Error{Kind: ErrNoData, Name: addr.String(), Type: "PTR", Err: err}
	}
	a, err := c.lookup(ctx, name, dns.TypePTR, false)
	if err != nil {
		return nil, err
	}
	return slices.Clone(a.records.names), nil
}

// MX looks up MX records. The error is an *Error.
func (c *Client) MX(ctx context.Context, name string) (MXs, error) {
	a, err := c.lookup(ctx, name, dns.TypeMX, false)
	if err != nil {
		return MXs{}, err
	}
	return MXs{Records: slices.Clone(a.records.mx), Secure: a.secure, TTL: a.ttl, CNAME: a.alias}, nil
}

// Alias looks up whether a name is an alias (CNAME), and whether its zone says so
// with a signature. The error is an *Error.
func (c *Client) Alias(ctx context.Context, name string) (target string, secure bool, err error) {
	a, err := c.lookup(ctx, name, dns.TypeCNAME, false)
	if err != nil {
		return "", false, err
	}
	return a.records.names[0], a.secure, nil
}

// silence is how long the lack of an answer for a family of addresses is cached, where
// the servers took longer than slow.
const (
	silence = 5 * time.Minute
	slow    = 2 * time.Second
)

// Addrs looks up the A and AAAA records of a host, side by side. One family
// that fails while the other has addresses is no error. The error is an *Error.
func (c *Client) Addrs(ctx context.Context, host string) (Addrs, error) {
	families := c.bothFamilies(ctx, host)
	out := Addrs{Secure: true}
	for _, f := range families {
		switch {
		case isTemporary(f.err):
			// Both families are in one zone: what is known of the other counts. An
			// attacker who drops packets must not make a signed zone look unsigned.
			continue
		case f.err != nil:
			out.Secure = out.Secure && isSecureDenial(f.err)
			continue
		}
		out.Secure = out.Secure && f.a.secure
		out.Name = f.a.alias
		if out.TTL == 0 || f.a.ttl < out.TTL {
			out.TTL = f.a.ttl
		}
		out.Addrs = append(out.Addrs, f.a.records.addrs...)
	}
	if out.Name == "" {
		out.Name = canonical(host)
	}
	if len(out.Addrs) == 0 {
		return Addrs{}, worse(families[1].err, families[0].err)
	}
	for _, f := range families {
		if isTemporary(f.err) {
			c.rememberSilence(host, f.qtype)
		}
	}
	return out, nil
}

// family is the answer to a question for addresses of one family.
type family struct {
	qtype uint16
	a     *answer
	err   error
}

// bothFamilies looks up AAAA and A records, side by side where the cache does not have both.
func (c *Client) bothFamilies(ctx context.Context, host string) [2]family {
	types := [2]uint16{dns.TypeAAAA, dns.TypeA}
	if !c.cache.has(newQuestion(host, types[0])) || !c.cache.has(newQuestion(host, types[1])) {
		return c.askFamilies(ctx, host, types)
	}
	var out [2]family
	for i, qtype := range types {
		a, err := c.lookup(ctx, host, qtype, false)
		out[i] = family{qtype, a, err}
	}
	return out
}

func (c *Client) askFamilies(ctx context.Context, host string, types [2]uint16) (out [2]family) {
	var wg sync.WaitGroup
	for i, qtype := range types {
		wg.Go(func() {
			a, err := c.lookup(ctx, host, qtype, false)
			out[i] = family{qtype, a, err}
		})
	}
	wg.Wait()
	return out
}

// rememberSilence caches the lack of an answer after a long wait longer than other
// failures. The other family has addresses: the host can be reached, and DNSSEC does not
// depend on this answer.
func (c *Client) rememberSilence(host string, qtype uint16) {
	q := newQuestion(host, qtype)
	if a, ok := c.cache.get(q); ok && a.err != nil && a.took >= min(slow, c.o.Timeout) && a.ttl < silence {
		c.cache.put(q, &answer{ttl: silence, alias: a.alias, err: a.err, took: a.took})
	}
}

// Forget removes the MX, A and AAAA records of a name from the cache: the next lookup
// asks anew.
func (c *Client) Forget(name string) {
	for _, qtype := range []uint16{dns.TypeMX, dns.TypeA, dns.TypeAAAA} {
		c.cache.forget(newQuestion(name, qtype))
	}
}

// TLSA looks up TLSA records of a name like "_25._tcp.mx.example.com". The
// error is an *Error.
func (c *Client) TLSA(ctx context.Context, name string) (TLSA, error) {
	a, err := c.lookup(ctx, name, dns.TypeTLSA, false)
	if err != nil {
		return TLSA{}, err
	}
	return TLSA{Records: slices.Clone(a.records.tlsa), Secure: a.secure, TTL: a.ttl, Name: a.alias}, nil
}

// HeldBack reports whether the resolver answers a question whose lookup failed when it is
// asked without validation (the CD bit, RFC 4035, 3.2.2): then the zone does not pass
// DNSSEC. The answer itself is not used.
func (c *Client) HeldBack(ctx context.Context, failed *Error) bool {
	qtype, ok := dns.StringToType[failed.Type]
	if failed.bogus || !ok || failed.Rcode != dns.RcodeServerFailure {
		return failed.bogus
	}
	for _, s := range c.current() {
		m := newQuery(dns.Fqdn(failed.Name), qtype, true)
		m.CheckingDisabled = true
		if s.Address.String() == failed.Server {
			return answered(s.ask(ctx, m))
		}
	}
	return false
}
