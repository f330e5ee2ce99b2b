package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
)

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use: "demo", Short: "Show what the relay does, with a whole Internet on loopback", Args: noArgs,
		Long: `Start a fake Internet (DNS, policy hosts, mail hosts, a certificate authority)
and the relay in one process, all on loopback, and send real mail through real
sockets: a delivery over verified TLS, the same domain attacked, a domain that
tests its policy, a domain without one. The exit status is 0 only if everything
went as it should.`,
		Example: "  stsrelay demo --keep",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), demoTime)
			defer cancel()
			out := a.out
			if a.json {
				out = io.Discard
			}
			d, err := startDemo(out)
			if err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			defer func() { _ = d.close() }() // after an error; else it is closed below
			err = d.play(ctx)
			if a.json {
				err = joinErrors(err, a.printJSON(d.shown(err, keep)))
			}
			if err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			if keep {
				d.invite()
				<-cmd.Context().Done()
			}
			return d.close()
		},
	}
	c.AddCommand(a.demoFleetCommand())
	c.Flags().BoolVar(&keep, "keep", false, "go on running, to play with")
	c.AddCommand(a.demoPublishCommand())
	return c
}

// demoTime bounds the whole demo.
const demoTime = 30 * time.Second

// demo is the fake Internet with a relay in it.
type demo struct {
	out     io.Writer
	net     *testnet.Net
	relay   *relay.Relay
	dir     string
	file    string
	token   string // for acting on the web page
	gateway *gateway
	stop    func() error // nil: the relay does not run
	hosts   map[string]*testnet.Host
	closed  bool
	color   bool
	started time.Time
	scenes  []demoScene
	// dial and roots are those of the relay. before may change them before it starts; nil:
	// it does not.
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	roots  *x509.CertPool
	before func() error
}

// demoScene is one scene of the demo, for --json.
type demoScene struct {
	Title   string   `json:"title"`
	Results []string `json:"results"`
	Notes   []string `json:"notes"`
}

// demoShown is all that --json prints.
type demoShown struct {
	OK      bool        `json:"ok"`
	Error   string      `json:"error,omitempty"`
	Seconds float64     `json:"seconds"`
	Scenes  []demoScene `json:"scenes"`
	// Addresses and files, with --keep.
	Relay  string `json:"relay,omitempty"`
	DNS    string `json:"dns,omitempty"`
	Config string `json:"config,omitempty"`
	Page   string `json:"page,omitempty"`
	Token  string `json:"token,omitempty"` // for acting on the page
}

func (d *demo) shown(err error, keep bool) demoShown {
	s := demoShown{OK: err == nil, Seconds: time.Since(d.started).Round(time.Millisecond).Seconds(), Scenes: d.scenes}
	if err != nil {
		s.Error = err.Error()
	} else if keep {
		s.Relay, s.DNS, s.Config = d.relay.Addrs()[0].String(), d.net.DNS.Addr(), d.file
		s.Page, s.Token = "http://"+d.relay.HTTPAddr().String()+"/", d.token
	}
	return s
}

const demoConfig = `hostname = "relay.demo.example"
data_dir = %q
[[listen]]
address = "127.0.0.1:0"
[dns]
servers = [%q]
[limits]
free_space = "64MiB"
[delivery]
retry = ["1s", "1s", "2s"]
private_addresses = "allow"
ca_file = "ca.pem"
[admin]
http = "127.0.0.1:0"
act_token_file = "act.token"
[log]
format = "text"
`

func startDemo(out io.Writer) (*demo, error) { return startDemoWith(&demo{out: out}) }

func startDemoWith(d *demo) (*demo, error) {
	d.hosts, d.started = make(map[string]*testnet.Host), time.Now()
	out := d.out
	if f, ok := out.(*os.File); ok {
		st, err := f.Stat()
		d.color = err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
	}
	if err := d.start(); err != nil {
		return nil, joinErrors(err, d.close())
	}
	return d, nil
}

func (d *demo) start() (err error) {
	if d.net, err = testnet.New(testnet.Options{}); err != nil {
		return err
	}
	d.dial, d.roots = d.net.DialContext, d.net.CA.Roots()
	if err := d.populate(); err != nil {
		return err
	}
	if d.before != nil {
		if err := d.before(); err != nil {
			return err
		}
	}
	if d.dir, err = os.MkdirTemp("", demoFolder); err != nil {
		return err
	}
	d.file, d.token = filepath.Join(d.dir, "demo.toml"), rand.Text()
	for name, content := range map[string][]byte{
		d.file: fmt.Appendf(nil, demoConfig, d.dir, d.net.DNS.Addr()), filepath.Join(d.dir, "ca.pem"): d.net.CA.PEM(), filepath.Join(d.dir, "act.token"): []byte(d.token),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
	}
	if d.gateway, err = openGateway(d.dir, d.dial); err != nil {
		return err
	}
	c, _, err := config.Load(d.file, nil)
	if err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(d.dir, "relay.log"))
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(logFile, nil))
	d.relay, err = relay.New(relay.Options{BounceDelay: bounceDelay, Config: c, Version: version, Logger: log, Dial: d.dial, Roots: d.roots})
	if err != nil {
		return err
	}
	d.stop, err = runRelay(d.relay, func() { _ = logFile.Close() })
	return err
}

// runRelay runs a relay until stop is called, which waits for its end and returns its
// error; ended is called then. The error is that the relay did not start.
func runRelay(r *relay.Relay, ended func()) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		defer ended()
		done <- r.Run(ctx, func() { close(ready) })
	}()
	select {
	case <-ready:
		return func() error { cancel(); return <-done }, nil
	case err := <-done:
		cancel()
		return nil, err
	}
}

// populate makes three domains: one that enforces its policy, one that tests
// it on a host with a bad certificate, and one that publishes nothing.
func (d *demo) populate() error {
	// The relay's own name and the senders' domain, which check --self looks at.
	if err := d.net.DNS.Add("relay.demo.example. 60 IN A 127.0.0.1", "1.0.0.127.in-addr.arpa. 60 IN PTR relay.demo.example.",
		`demo.example. 60 IN TXT "v=spf1 a:relay.demo.example -all"`, `_dmarc.demo.example. 60 IN TXT "v=DMARC1; p=none"`); err != nil {
		return err
	}
	for _, site := range []struct {
		domain, mode string
		faults       testnet.Faults
	}{
		{"bank.example", "enforce", testnet.Faults{}},
		{"shop.example", "testing", testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}},
		{"plain.example", "", testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}},
	} {
		mx := "mx1." + site.domain
		h, err := d.net.AddHost(mx)
		if err != nil {
			return err
		}
		if err := h.Set(site.faults); err != nil {
			return err
		}
		d.hosts[site.domain] = h
		pub := testnet.Domain{MX: []string{mx}, TLSRPT: "mailto:tls@" + site.domain}
		if site.mode != "" {
			pub.Policy = testnet.Policy{ID: "20261123", Mode: site.mode, MX: []string{mx}, MaxAge: 604800}
		}
		if err := d.net.AddDomain(site.domain, pub); err != nil {
			return err
		}
	}
	return nil
}

// close stops everything and removes the data. It may be called twice.
func (d *demo) close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	var err error
	if d.stop != nil {
		err = d.stop()
	}
	if d.gateway != nil {
		d.gateway.close()
	}
	if d.net != nil {
		d.net.Close()
	}
	if d.dir != "" {
		err = joinErrors(err, os.RemoveAll(d.dir))
	}
	return err
}

// invite prints the addresses and commands to play with.
func (d *demo) invite() {
	d.say("")
	d.say("Everything goes on running until Ctrl-C:")
	d.say("  relay     %s", d.relay.Addrs()[0])
	d.say("  DNS       %s", d.net.DNS.Addr())
	d.say("  page      http://%s/ (log in with %s to act there)", d.relay.HTTPAddr(), d.token)
	d.say("  queue     stsrelay queue list --config %s", d.file)
	d.say("  check     stsrelay check bank.example --config %s", d.file)
	d.say("            (the other domains are shop.example and plain.example)")
	d.say("  log       %s", filepath.Join(d.dir, "relay.log"))
	d.say("Try:  swaks --server %s --from you@demo.example --to someone@bank.example", d.relay.Addrs()[0])
}

// waiting returns the message once it has a result; gone reports that it was delivered.
func (d *demo) result(ctx context.Context, id queue.ID) (m queue.Message, gone bool, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		m, err = d.relay.Queue().Show(id)
		if err != nil {
			return m, true, nil
		}
		if m.Attempts > 0 && m.State == queue.Queued {
			return m, false, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return m, false, fmt.Errorf("message %s had no result in time", id)
		}
	}
}
