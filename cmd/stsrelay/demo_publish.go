package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/sts/publish"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// ownDomain is the domain whose policy the first relay of the demo publishes.
const ownDomain = "own.example"

func (a *app) demoPublishCommand() *cobra.Command {
	return &cobra.Command{
		Use: "publish", Short: "Show how one relay publishes a policy, and another one enforces it", Args: noArgs,
		Long: `Start two relays and a fake Internet on loopback. The first one publishes a policy
for a domain of its own, with a certificate of pebble where that program is
installed. The second one delivers mail to that domain, enforces the policy
under an attack, and reports the attack to the first one, which then withdraws
the policy. The exit status is 0 only if everything went as it should.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), demoTime)
			defer cancel()
			out := a.out
			if a.json {
				out = io.Discard
			}
			p := &demoPublish{demo: &demo{out: out}}
			defer p.close()
			err := p.play(ctx)
			if a.json {
				err = joinErrors(err, a.printJSON(p.shown(err, false)))
			}
			if err != nil {
				return fmt.Errorf("demo publish: %w", err)
			}
			return nil
		},
	}
}

// demoPublish is a demo, whose relay enforces, and a first relay that publishes.
type demoPublish struct {
	*demo
	first  *relay.Relay
	home   string          // the first relay's data and configuration
	stop   func() error    // nil: it does not run
	pebble *testnet.Pebble // nil: it is not installed
	port   int
}

func (p *demoPublish) play(ctx context.Context) error {
	var err error
	p.demo.before = p.startFirst
	if _, err = startDemoWith(p.demo); err != nil {
		return err
	}
	p.say("Two relays and a whole Internet on loopback. The first relay publishes, the second one enforces.")
	for _, scene := range []func(context.Context) error{p.publishes, p.enforced, p.attacked, p.reported, p.withdrawn} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	p.say("\nAll of it happened, in %.1f s.", time.Since(p.started).Seconds())
	return nil
}

// startFirst makes the domain and starts the relay that publishes its policy.
func (p *demoPublish) startFirst() (err error) {
	h, err := p.net.AddHost("mx1." + ownDomain)
	if err != nil {
		return err
	}
	p.hosts[ownDomain] = h
	if p.home, err = os.MkdirTemp("", "stsrelay-demo-"); err != nil {
		return err
	}
	ports, err := freePorts()
	if err != nil {
		return err
	}
	p.port = ports[0]
	certificates, err := p.authority(ports)
	if err != nil {
		return err
	}
	id := publish.RecordText(publish.ID(publish.Text((&config.Publish{Mode: "enforce", MX: []string{h.Name}, MaxAge: config.Duration(336 * time.Hour)}).Policy())))
	if err := p.net.DNS.Add(ownDomain+". 60 IN MX 10 "+h.Name+".", "mta-sts."+ownDomain+". 60 IN A 127.0.0.1", "_mta-sts."+ownDomain+". 60 IN TXT \""+id+"\"",
		"_smtp._tls."+ownDomain+". 60 IN TXT \"v=TLSRPTv1; rua=mailto:reports@"+ownDomain+"\""); err != nil {
		return err
	}
	if err := p.configure(certificates, "[[publish]]\ndomains = [\""+ownDomain+"\"]\nmode = \"enforce\"\nmx = [\""+h.Name+"\"]\n"); err != nil {
		return err
	}
	through := p.dial
	p.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "127.0.0.1:443" {
			return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", p.port))
		}
		return through(ctx, network, address)
	}
	return p.runFirst()
}

// freePorts are two ports that nobody has.
func freePorts() (out [2]int, err error) {
	for i := range out {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return out, err
		}
		defer ln.Close()
		out[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return out, nil
}

// authority starts pebble, or has the authority of the fake Internet issue a file, and
// returns the lines of the configuration about certificates.
func (p *demoPublish) authority(ports [2]int) (toml string, err error) {
	p.pebble, err = p.net.StartPebble(testnet.PebbleOptions{Dir: p.home, TLSPort: ports[0], HTTPPort: ports[1]})
	if errors.Is(err, testnet.ErrNoPebble) {
		return p.certificateFile()
	}
	if err != nil {
		return "", err
	}
	root, err := p.pebble.Root()
	if err != nil {
		return "", err
	}
	p.roots.AppendCertsFromPEM(root)
	return fmt.Sprintf("http = \"127.0.0.1:%d\"\n[acme]\ndirectory = %q\nagree = true\nca_file = %q\n", ports[1], p.pebble.Directory, p.pebble.CAFile), nil
}

func (p *demoPublish) certificateFile() (toml string, err error) {
	name := publish.PolicyHost(ownDomain)
	cert, err := p.net.CA.Issue(name, testnet.CertSpec{})
	if err != nil {
		return "", err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return "", err
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, name + ".key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(p.home, file), pem.EncodeToMemory(block), 0o600); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("tls = \"files\"\ncertificate_dir = %q\n", p.home), nil
}

// configure writes the first relay's configuration.
func (p *demoPublish) configure(certificates, published string) error {
	text := fmt.Sprintf("hostname = \"relay.own.example\"\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[dns]\nservers = [%q]\n[limits]\nfree_space = \"64MiB\"\n[delivery]\nprivate_addresses = \"allow\"\n[reports]\ndomains = [%q]\n[publisher]\nhttps = \"127.0.0.1:%d\"\naddresses = [\"127.0.0.1\"]\n%s%s",
		p.home, p.net.DNS.Addr(), ownDomain, p.port, certificates, published)
	return os.WriteFile(p.firstFile(), []byte(text), 0o600)
}

func (p *demoPublish) firstFile() string { return filepath.Join(p.home, "first.toml") }

func (p *demoPublish) runFirst() error {
	load := func() (*config.Config, error) {
		c, _, err := config.Load(p.firstFile(), nil)
		return c, err
	}
	c, err := load()
	if err != nil {
		return err
	}
	p.first, err = relay.New(relay.Options{Config: c, Load: load, Version: version, Logger: slog.New(slog.DiscardHandler), Dial: p.dial, Roots: p.roots})
	if err != nil {
		return err
	}
	p.stop, err = runRelay(p.first, func() {})
	return err
}

// close stops both relays and removes the data.
func (p *demoPublish) close() {
	_ = p.demo.close()
	if p.stop != nil {
		_ = p.stop()
	}
	if p.pebble != nil {
		p.pebble.Close()
	}
	if p.home != "" {
		_ = os.RemoveAll(p.home)
	}
}

func (p *demoPublish) publishes(ctx context.Context) error {
	p.title("1. The first relay publishes a policy for own.example: enforce, only mx1.own.example")
	for {
		list, err := p.first.Operator().Published(ctx)
		if err != nil {
			return err
		}
		if c := list[0].Certificate; c != nil && c.NotAfter != nil {
			from := "from a file"
			if p.pebble != nil {
				from = "from pebble, by ACME"
			}
			p.good("id %s, the certificate of mta-sts.own.example %s", list[0].ID, from)
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("there is no certificate of the policy host in time")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *demoPublish) enforced(ctx context.Context) error {
	p.title("2. The second relay finds it, and delivers over verified TLS")
	if _, err := p.delivered(ctx, ownDomain); err != nil {
		return err
	}
	policy, err := p.relay.Operator().Policy(ownDomain)
	if err != nil {
		return err
	}
	if policy.Mode != "enforce" {
		return fmt.Errorf("the policy that counts is %s", policy.Mode)
	}
	p.good("delivered; the policy in force is %s, id %s", policy.Mode, policy.ID)
	return nil
}

func (p *demoPublish) attacked(ctx context.Context) error {
	p.title("3. Somebody on the way takes STARTTLS away from mx1.own.example")
	if err := p.hosts[ownDomain].Set(testnet.Faults{NoStartTLS: true}); err != nil {
		return err
	}
	p.hosts[ownDomain].Cut() // a session that was verified could still be used
	return p.heldBack(ctx, ownDomain, failure.TLSNone)
}

func (p *demoPublish) reported(ctx context.Context) error {
	p.title("4. The first relay reads what the second one reports (TLS-RPT)")
	var text []byte
	var err error
	for len(text) == 0 || !bytes.Contains(text, []byte(tlsrpt.StartTLSNotSupported)) {
		e := p.relay.Operator().PreviewReports(ctx, time.Now().UTC().Format(tlsrpt.DayFormat), ownDomain, func(r *tlsrpt.Report) bool {
			text, err = json.Marshal(r)
			return err == nil
		})
		if err = joinErrors(err, e, ctx.Err()); err != nil {
			return err
		}
	}
	if _, err := p.first.Operator().ImportReports(ctx, operator.Actor{Via: "demo"}, bytes.NewReader(text), "report.json"); err != nil {
		return err
	}
	all, err := p.first.Operator().ReceivedSummaries(ctx, ownDomain, time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly))
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Domain == ownDomain && s.Failed > 0 {
			p.good("%d session good, %d failed; that is why own.example is not ready for a step", s.Successful, s.Failed)
			p.note("%s", s.Verdict.String())
			return nil
		}
	}
	return errors.New("the first relay knows no failure")
}

func (p *demoPublish) withdrawn(ctx context.Context) error {
	p.title("5. The first relay gives the policy up: mode none, as long as an older one binds")
	data, err := os.ReadFile(p.firstFile())
	if err != nil {
		return err
	}
	head, _, _ := strings.Cut(string(data), "[[publish]]")
	if err := os.WriteFile(p.firstFile(), []byte(head), 0o600); err != nil { //nolint:gosec // in the demo's own folder
		return err
	}
	if err := p.first.Reload(ctx); err != nil {
		return err
	}
	list, err := p.first.Operator().Published(ctx)
	if err != nil {
		return err
	}
	if len(list) != 1 || !list[0].Leaving || list[0].BindsUntil == nil {
		return errors.New("the domain is not served on")
	}
	p.net.DNS.Remove("_mta-sts."+ownDomain, "TXT")
	if err := p.net.DNS.Add("_mta-sts." + ownDomain + ". 60 IN TXT \"" + publish.RecordText(list[0].ID) + "\""); err != nil {
		return err
	}
	policy, err := p.relay.Operator().RefreshPolicy(ctx, operator.Actor{Via: "demo"}, ownDomain)
	if err != nil {
		return err
	}
	if policy.Mode != "none" {
		return fmt.Errorf("the second relay still has the policy %s", policy.Mode)
	}
	p.good("the second relay has mode none now; the first one serves it until %s", list[0].BindsUntil.UTC().Format(time.DateOnly))
	return nil
}
