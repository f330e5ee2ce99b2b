package e2e

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// RetrySoon is a retry schedule for tests that wait for a second attempt.
const RetrySoon = "retry = [\"1s\"]\n"

// World is a fake Internet with a relay in it. Its methods end the test where
// something fails that the test does not ask about.
type World struct {
	*testnet.Net
	T     testing.TB
	Dir   string       // data_dir, and the place of the configuration file
	Relay *relay.Relay // the one that runs, or ran last
	Addr  string       // its first SMTP listener
	Stop  func()       // stops the relay and waits for its end

	// What counts from the next start on.
	Listener      string // more keys of [[listen]]
	Timeouts      smtpclient.Timeouts
	RefusePrivate bool // delivery.private_addresses = "refuse"
	RenewCheck    time.Duration
	FreeSpace     string // limits.free_space; "": 64MiB
	Resolver      string // dns.servers; "": the fake DNS
	Clock         *Clock // nil: the real one
	Logger        *slog.Logger
	Dial          func(ctx context.Context, network, address string) (net.Conn, error) // nil: into the fake Internet
	Roots         *x509.CertPool                                                       // nil: the authority of the fake Internet
}

// New starts a relay with the given configuration beside what it needs to
// live in the fake Internet.
func New(t testing.TB, toml string) *World {
	t.Helper()
	w := NewStopped(t)
	w.Start(toml)
	return w
}

// NewStopped is New with a relay that has not been started.
func NewStopped(t testing.TB) *World {
	t.Helper()
	return newIn(t, testnet.Options{})
}

func newIn(t testing.TB, o testnet.Options) *World {
	t.Helper()
	n, err := testnet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &World{Net: n, T: t, Dir: t.TempDir()}
	addCertificates(t, w.Dir)
	return w
}

// In is the same world for a subtest: it is that one which fails.
func (w *World) In(t testing.TB) *World {
	in := *w
	in.T = t
	return &in
}

// Start starts the relay with the given configuration, again after a stop. The text
// goes on behind the beginning of [delivery].
func (w *World) Start(toml string) {
	w.T.Helper()
	file := w.Configure(toml)
	load := func() (*config.Config, error) {
		c, _, err := config.Load(file, nil)
		return c, err
	}
	c, err := load()
	if err != nil {
		w.T.Fatal(err)
	}
	o := relay.Options{Config: c, Load: load, Dial: w.Dial, Roots: cmp.Or(w.Roots, w.CA.Roots()), Version: "test", Timeouts: w.Timeouts, RenewCheck: w.RenewCheck, Logger: w.Logger}
	if o.Dial == nil {
		o.Dial = w.DialContext
	}
	if o.Logger == nil {
		o.Logger = logger(w.T)
	}
	if w.Clock != nil {
		o.Now, o.After = w.Clock.Now, w.Clock.After
	}
	r, err := relay.New(o)
	if err != nil {
		w.T.Fatal(err)
	}
	w.run(r)
}

// run lets a relay run until Stop, or the end of the test.
func (w *World) run(r *relay.Relay) {
	w.T.Helper()
	w.Relay = r
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() { done <- w.Relay.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		w.T.Fatalf("the relay did not start: %v", err)
	}
	w.Addr = w.Relay.Addrs()[0].String()
	w.Stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.T.Errorf("the relay stopped with: %v", err)
		}
		w.Stop = func() {}
	}
	w.T.Cleanup(func() { w.Stop() })
}

// Configure writes the configuration file, as Start does, and returns its name.
func (w *World) Configure(toml string) (file string) {
	w.T.Helper()
	file = filepath.Join(w.Dir, "stsrelay.toml")
	private := "allow"
	if w.RefusePrivate {
		private = "refuse"
	}
	text := fmt.Sprintf(`hostname = %q
data_dir = %q
[[listen]]
address = "127.0.0.1:0"
%s[dns]
servers = [%q]
[limits]
free_space = %q
[delivery]
private_addresses = %q
`, hostname, w.Dir, w.Listener, cmp.Or(w.Resolver, w.DNS.Addr()), cmp.Or(w.FreeSpace, "64MiB"), private) + toml
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.T.Fatal(err)
	}
	return file
}

// Host adds an MX host.
func (w *World) Host(name string) *testnet.Host {
	w.T.Helper()
	h, err := w.AddHost(name)
	if err != nil {
		w.T.Fatal(err)
	}
	return h
}

// Domain adds a domain.
func (w *World) Domain(name string, d testnet.Domain) {
	w.T.Helper()
	if err := w.AddDomain(name, d); err != nil {
		w.T.Fatal(err)
	}
}

// SetFaults changes what is wrong with a host.
func (w *World) SetFaults(h *testnet.Host, f testnet.Faults) {
	w.T.Helper()
	if err := h.Set(f); err != nil {
		w.T.Fatal(err)
	}
}

// AddRecords adds records to the fake DNS, in the notation of zone files.
func (w *World) AddRecords(records ...string) {
	w.T.Helper()
	if err := w.DNS.Add(records...); err != nil {
		w.T.Fatal(err)
	}
}

// SetPolicyFaults changes what is wrong with the policy host of a domain.
func (w *World) SetPolicyFaults(domain string, f testnet.PolicyFaults) {
	w.T.Helper()
	site, err := w.PolicyHost(domain)
	if err != nil {
		w.T.Fatal(err)
	}
	if err := site.Set(f); err != nil {
		w.T.Fatal(err)
	}
}

// PolicyFor is a policy that names one host.
func PolicyFor(mode, host string) testnet.Policy {
	return testnet.Policy{ID: "1", Mode: mode, MX: []string{host}, MaxAge: 86400}
}
