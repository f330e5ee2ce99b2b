// Package dnsclient is a stub resolver (RFC 1034, 5.3.1) over miekg/dns: it
// asks the configured servers and believes their AD bit only where the way to
// them is safe. It caches answers for their TTL, and callers with the same question at
// the same time share one exchange.
//
// It does not validate DNSSEC itself, knows no policy, and looks up only what
// mail needs: TXT, MX, A, AAAA, TLSA and CAA.
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

	"github.com/stsrelay/stsrelay/internal/phrase"
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
	// TrustAD chooses the servers whose AD bit is believed (RFC 4035, 3.2.3): "auto"
	// (default) that of servers on loopback and of DNS over TLS, "always",
	// "never". 127.0.0.11 is no validating resolver but a container's
	// forwarder, and is not believed by "auto".
	TrustAD string
	// Timeout bounds one exchange. Default 5s.
	Timeout time.Duration
	// Attempts is the number of rounds in which all servers are asked. Default 2.
	Attempts int
	// CacheBytes bounds the answers kept, in octets of memory. Default 64 MiB.
	CacheBytes int
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

// ServerStatus is a server and whether its AD bit is believed.
type ServerStatus struct {
	Address  string
	DoT      bool
	Believed bool
	Why      phrase.Phrase // why it is believed, or not
	// Validation is the result of its last answer for the root zone.
	Validation Validation
}

// Protects reports whether DANE can protect mail by the answers of the server.
func (s ServerStatus) Protects() bool { return s.Believed && s.Validation != ValidatesNothing }

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
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, cache: newCache(o.CacheBytes, o.Now)}
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

// Servers returns the servers that are asked, and whether each is believed.
func (c *Client) Servers() []ServerStatus {
	var out []ServerStatus
	for _, s := range c.current() {
		out = append(out, s.status())
	}
	return out
}

// Probe asks the servers whose AD bit may count whether they validate, now: their
// answer for the root zone must have it. It is done without this call too, when a
// server is asked for the first time, and from time to time.
func (c *Client) Probe(ctx context.Context) { probeAll(ctx, c.current()) }

// Answers asks the servers in turn, past the cache, for the name servers of the root zone and
// of com, until one answers. The error says of each why it did not: then no name can be looked
// up. An answer SERVFAIL is none: the server reaches no others. A server that still has the
// answer in its own cache looks well while it reaches no others.
func (c *Client) Answers(ctx context.Context) error {
	var failed []error
	for _, s := range c.current() {
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", s.Address, err))
	}
	return errors.Join(failed...)
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

// lookup is find, and tells the observer of ctx.
func (c *Client) lookup(ctx context.Context, name string, qtype uint16, fresh bool) (*answer, error) {
	key := newQuestion(name, qtype)
	a := c.find(ctx, key, fresh)
	if tell, ok := ctx.Value(observerKey{}).(func(*Observation)); ok {
		tell(a.observation(key))
	}
	return a.result()
}

// find answers from the cache, or asks; callers with the same question share
// one exchange, and a caller whose context ends does not end it for the others.
func (c *Client) find(ctx context.Context, key question, fresh bool) *answer {
	if !fresh {
		if a, ok := c.cache.get(key); ok {
			return a
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
		return &answer{err: &Error{Name: key.name, Type: dns.TypeToString[key.qtype], Kind: ErrTemporary, Err: context.Cause(ctx)}}
	case r := <-ch:
		return r.Val.(*answer)
	}
}

type question struct {
	name  string // canonical
	qtype uint16
}

func newQuestion(name string, qtype uint16) question {
	return question{name: canonical(name), qtype: qtype}
}

func (q question) String() string { return fmt.Sprintf("%s %d", q.name, q.qtype) }

// canonical is a name in lower case without final dot; the root stays ".".
func canonical(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}
