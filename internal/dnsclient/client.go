// Package dnsclient is a stub resolver (RFC 1034, 5.3.1) over miekg/dns: it
// asks the configured servers and believes their AD bit only where the way to
// them is safe. It keeps answers as long as they allow, and joins callers who
// ask the same at the same time.
//
// It does not validate DNSSEC itself, knows no policy, and looks up only what
// mail needs: TXT, MX, A, AAAA and TLSA.
package dnsclient

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// Options configures New. The zero value asks the servers of /etc/resolv.conf.
type Options struct {
	// Servers are asked in order: "127.0.0.1:53", "[::1]:53", "127.0.0.1"
	// (port 53), "tls://9.9.9.9:853#dns.quad9.net" (DNS over TLS, RFC 7858).
	// Empty: those of ResolvConf.
	Servers []string
	// ResolvConf is read where Servers is empty, again when it changes.
	// Default /etc/resolv.conf.
	ResolvConf string
	// TrustAD says whose AD bit is believed (RFC 4035, 3.2.3): "auto"
	// (default) that of servers on loopback and of DNS over TLS, "always",
	// "never". 127.0.0.11 is no validating resolver but a container's
	// forwarder, and is not believed by "auto".
	TrustAD string
	// Timeout bounds one exchange. Default 5s.
	Timeout time.Duration
	// Attempts is how often all servers are asked. Default 2.
	Attempts int
	// CacheSize is the number of answers kept. Default 20,000.
	CacheSize int
	// Roots judge the certificates of DNS over TLS; nil: the system's.
	Roots *x509.CertPool
	// Now is the clock of the cache; default time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Client is a resolver. Its methods may be called from many goroutines.
type Client struct {
	o     Options
	cache *cache
	group singleflight.Group

	mu       sync.Mutex
	servers  []*server
	confRead time.Time // modification time of ResolvConf when it was read
	confSeen time.Time // when it was last looked at
}

// ServerStatus is a server and whether it is believed, for the start-up log.
type ServerStatus struct {
	Address  string
	DoT      bool
	Believed bool
	Why      string
}

// New returns a Client. It sends nothing.
func New(o Options) (*Client, error) {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.TrustAD == "" {
		o.TrustAD = "auto"
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Attempts == 0 {
		o.Attempts = 2
	}
	if o.CacheSize == 0 {
		o.CacheSize = 20_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, cache: newCache(o.CacheSize, o.Now)}
	for _, s := range o.Servers {
		parsed, err := ParseServer(s)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, newServer(parsed, o))
	}
	if len(o.Servers) == 0 {
		if err := c.readConf(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Close closes kept connections.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		s.close()
	}
	return nil
}

// Servers tells which servers are asked and which are believed.
func (c *Client) Servers() []ServerStatus {
	var out []ServerStatus
	for _, s := range c.current() {
		out = append(out, ServerStatus{Address: s.Address.String(), DoT: s.TLS, Believed: s.believed, Why: s.why})
	}
	return out
}

// current returns the servers, read again where resolv.conf has changed.
func (c *Client) current() []*server {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.o.Servers) == 0 && time.Since(c.confSeen) > 5*time.Second {
		if err := c.readConf(); err != nil {
			c.o.Logger.Warn("the resolver configuration cannot be read; the old servers stay", "error", err)
		}
	}
	return slices.Clone(c.servers)
}

func (c *Client) readConf() error {
	c.confSeen = time.Now()
	addrs, changed, err := readResolvConf(c.o.ResolvConf, &c.confRead)
	if err != nil || !changed {
		return err
	}
	for _, s := range c.servers {
		s.close()
	}
	c.servers = nil
	for _, a := range addrs {
		c.servers = append(c.servers, newServer(Server{Address: netip.AddrPortFrom(a, 53)}, c.o))
	}
	return nil
}

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
	// Secure says that every answer was validated, that of a family without
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

// TXT looks up TXT records; fresh goes past the cache. The error is an *Error.
func (c *Client) TXT(ctx context.Context, name string, fresh bool) (TXT, error) {
	a, err := c.lookup(ctx, name, dns.TypeTXT, fresh)
	if err != nil {
		return TXT{}, err
	}
	out := TXT{Secure: a.secure, TTL: a.ttl, CNAME: a.alias}
	for _, rr := range a.records {
		if t, ok := rr.(*dns.TXT); ok {
			out.Records = append(out.Records, unescape(strings.Join(t.Txt, "")))
		}
	}
	return out, nil
}

// FreshTXT looks up TXT records past the cache; that there are none is no error.
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
	var names []string
	for _, rr := range a.records {
		if p, ok := rr.(*dns.PTR); ok {
			names = append(names, canonical(p.Ptr))
		}
	}
	return names, nil
}

// MX looks up MX records. The error is an *Error.
func (c *Client) MX(ctx context.Context, name string) (MXs, error) {
	a, err := c.lookup(ctx, name, dns.TypeMX, false)
	if err != nil {
		return MXs{}, err
	}
	out := MXs{Secure: a.secure, TTL: a.ttl, CNAME: a.alias}
	for _, rr := range a.records {
		if m, ok := rr.(*dns.MX); ok {
			out.Records = append(out.Records, MX{Host: canonical(m.Mx), Preference: m.Preference})
		}
	}
	slices.SortFunc(out.Records, func(a, b MX) int {
		if a.Preference != b.Preference {
			return int(a.Preference) - int(b.Preference)
		}
		return strings.Compare(a.Host, b.Host)
	})
	return out, nil
}

// Addrs looks up the A and AAAA records of a host, side by side. One family
// that fails while the other has addresses is no error. The error is an *Error.
func (c *Client) Addrs(ctx context.Context, host string) (Addrs, error) {
	var v6 *answer
	var err6 error
	var wg sync.WaitGroup
	wg.Go(func() { v6, err6 = c.lookup(ctx, host, dns.TypeAAAA, false) })
	v4, err4 := c.lookup(ctx, host, dns.TypeA, false)
	wg.Wait()
	out := Addrs{Secure: true}
	for _, f := range []struct {
		a   *answer
		err error
	}{{v6, err6}, {v4, err4}} {
		switch {
		case errors.Is(f.err, ErrTemporary):
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
		out.Addrs = append(out.Addrs, addresses(f.a.records)...)
	}
	if out.Name == "" {
		out.Name = canonical(host)
	}
	if len(out.Addrs) > 0 {
		return out, nil
	}
	return Addrs{}, worse(err4, err6)
}

func addresses(records []dns.RR) (out []netip.Addr) {
	for _, rr := range records {
		var a netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(rr.AAAA.To16())
		}
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// TLSA looks up TLSA records of a name like "_25._tcp.mx.example.com". The
// error is an *Error.
func (c *Client) TLSA(ctx context.Context, name string) (TLSA, error) {
	a, err := c.lookup(ctx, name, dns.TypeTLSA, false)
	if err != nil {
		return TLSA{}, err
	}
	out := TLSA{Secure: a.secure, TTL: a.ttl, Name: a.alias}
	for _, rr := range a.records {
		if t, ok := rr.(*dns.TLSA); ok {
			data, err := hexBytes(t.Certificate)
			if err != nil {
				continue
			}
			out.Records = append(out.Records, TLSARecord{Usage: t.Usage, Selector: t.Selector, MatchingType: t.MatchingType, Data: data})
		}
	}
	return out, nil
}

// lookup answers from the cache, or asks; callers with the same question share
// one exchange, and one who gives up does not end it for the others.
func (c *Client) lookup(ctx context.Context, name string, qtype uint16, fresh bool) (*answer, error) {
	name = strings.ToLower(dns.Fqdn(name))
	key := question{name: name, qtype: qtype}
	if !fresh {
		if a, ok := c.cache.get(key); ok {
			return a.result()
		}
	}
	ch := c.group.DoChan(key.String(), func() (any, error) {
		if !fresh {
			// An exchange may have ended between the look above and here.
			if a, ok := c.cache.get(key); ok {
				return a, nil
			}
		}
		// No caller's context: the answer is for all of them. The exchanges are
		// bounded by their own timeouts.
		a := c.resolve(context.WithoutCancel(ctx), key)
		c.cache.put(key, a)
		return a, nil
	})
	select {
	case <-ctx.Done():
		return nil, &Error{Name: canonical(name), Type: dns.TypeToString[qtype], Kind: ErrTemporary, Err: context.Cause(ctx)}
	case r := <-ch:
		return r.Val.(*answer).result()
	}
}

type question struct {
	name  string
	qtype uint16
}

func (q question) String() string { return fmt.Sprintf("%s %d", q.name, q.qtype) }

// canonical is a name in lower case without final dot; the root stays ".".
func canonical(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}
