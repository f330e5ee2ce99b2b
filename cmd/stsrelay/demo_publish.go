package main

import (
	"context"
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

const (
	// ownDomain is the domain whose policy the first relay of the demo publishes.
	ownDomain = "own.example"
	// ownHost is the first relay, which takes reports.
	ownHost = "relay.own.example"
)

func (a *app) demoPublishCommand() *cobra.Command {
	return &cobra.Command{
		Use: "publish", Short: "Show how one relay publishes a policy, and another one enforces it", Args: noArgs,
		Long: `Start two relays and a fake Internet on loopback. The first one publishes a
policy for a domain of its own, with a certificate of pebble where that program
is installed. The second one delivers mail to that domain, enforces the policy
under an attack, and sends its report of the attack to the first one over HTTPS,
which then withdraws the policy. The exit status is 0 only if everything went as
it should.`,
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
	if err := p.net.DNS.Add(ownDomain+". 60 IN MX 10 "+h.Name+".", "mta-sts."+ownDomain+". 60 IN A 127.0.0.1", ownHost+". 60 IN A 127.0.0.1", "_mta-sts."+ownDomain+". 60 IN TXT \""+id+"\"",
		"_smtp._tls."+ownDomain+". 60 IN TXT \"v=TLSRPTv1; rua=https://"+ownHost+"/tlsrpt\""); err != nil {
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

// configure writes the first relay's configuration.
func (p *demoPublish) configure(certificates, published string) error {
	text := fmt.Sprintf("hostname = %q\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[dns]\nservers = [%q]\n[limits]\nfree_space = \"64MiB\"\n[delivery]\nprivate_addresses = \"allow\"\n[reports]\ndomains = [%q]\nhttps = true\n[publisher]\nhttps = \"127.0.0.1:%d\"\naddresses = [\"127.0.0.1\"]\n%s%s",
		ownHost, p.home, p.net.DNS.Addr(), ownDomain, p.port, certificates, published)
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
	for _, name := range []string{publish.PolicyHost(ownDomain), ownHost} {
		if err := p.certified(ctx, name); err != nil {
			return err
		}
	}
	list, err := p.first.Operator().Published(ctx)
	if err != nil {
		return err
	}
	from := "from a file"
	if p.pebble != nil {
		from = "from pebble, by ACME"
	}
	p.good("id %s, the certificate of mta-sts.own.example %s", list[0].ID, from)
	return nil
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
	p.title("4. The second relay reports the attack (TLS-RPT), and the first one reads it")
	today := time.Now().UTC().Format(tlsrpt.DayFormat)
	for { // what a session has failed for is counted when its attempt ends
		failed := int64(0)
		err := p.relay.Operator().PreviewReports(ctx, today, ownDomain, func(r *tlsrpt.Report) bool {
			for _, policy := range r.Policies {
				failed += policy.Summary.Failed
			}
			return true
		})
		if err = joinErrors(err, ctx.Err()); err != nil {
			return err
		}
		if failed > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var sent []tlsrpt.Status
	err := p.relay.Operator().SendReports(ctx, operator.Actor{Via: "demo"}, today, ownDomain, func(s tlsrpt.Status) bool {
		sent = append(sent, s)
		return true
	})
	if err != nil {
		return err
	}
	if len(sent) != 1 || sent[0].State != tlsrpt.Sent {
		return fmt.Errorf("the report was not taken: %+v", sent)
	}
	p.good("the report has gone to https://%s/tlsrpt, which the record _smtp._tls.own.example names", ownHost)
	all, err := p.first.Operator().ReceivedSummaries(ctx, ownDomain, time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly))
	if err != nil {
		return err
	}
	for _, s := range all {
		for _, f := range s.Failures {
			if s.Domain == ownDomain && f.Type == string(tlsrpt.StartTLSNotSupported) {
				p.good("the first relay has read it: %d session good, %d failed: %s at %s", s.Successful, s.Failed, f.Type, f.MX)
				p.note("%s", s.Verdict.String())
				return nil
			}
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
