package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// publishSetup is the output of `publish setup`.
type publishSetup struct {
	Domain string      `json:"domain"`
	Hosts  []setupHost `json:"hosts"`
	// Configured reports whether the configuration publishes the domain; else TOML are the
	// lines to add.
	Configured bool   `json:"configured"`
	TOML       string `json:"toml,omitempty"`
	// Records are to be set, the last one when the policy is served.
	Records []publish.Record `json:"records"`
}

// setupHost is an MX host.
type setupHost struct {
	Name string `json:"name"`
	// Problem is why senders that obey enforce would not use it, "" where they would.
	Problem string `json:"problem,omitempty"`
	// Unreached reports whether the host could not be reached from here: its certificate is
	// not known then, and Problem says so.
	Unreached bool `json:"unreached,omitempty"`
}

func (a *app) publishSetup() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "setup DOMAIN", Short: "Print the policy and the DNS records for a domain", Args: oneArg("domain"),
		Long: `Look at the MX hosts of a domain and their certificates, and print the lines of
the configuration and the DNS records that publish a policy for it, in the order
in which they are set. Nothing is changed. Exit 1 where an MX host has no
certificate that senders would believe: mode testing does no harm even then.`,
		Example: "  stsrelay publish setup example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			domain, err := mailbox.ParseName(args[0])
			if err != nil {
				return usageError{err}
			}
			conf, _, err := a.load()
			if err != nil {
				return err
			}
			s, err := a.setupOf(cmd, conf, domain, timeout)
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(s)
			} else {
				a.printPublishSetup(conf, s)
			}
			if err == nil && slices.ContainsFunc(s.Hosts, func(h setupHost) bool { return h.Problem != "" }) {
				err = errAnswered
			}
			return err
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 20*time.Second, "how long the look at the MX hosts may take")
	return c
}

func (a *app) setupOf(cmd *cobra.Command, c *config.Config, domain string, timeout time.Duration) (*publishSetup, error) {
	hosts, err := a.mxHosts(cmd.Context(), c, domain, timeout)
	if err != nil {
		return nil, err
	}
	s := &publishSetup{Domain: domain, Hosts: hosts}
	d := publish.Domain{Name: domain, Policy: &sts.Policy{Mode: sts.ModeTesting, MaxAge: 14 * 24 * time.Hour}, RUA: []string{"mailto:tls-reports@" + domain}}
	for _, h := range hosts {
		d.Policy.MX = append(d.Policy.MX, h.Name)
	}
	all, err := c.Published()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(all, func(p publish.Domain) bool { return p.Name == domain }); i >= 0 {
		d, s.Configured = all[i], true
	} else {
		s.TOML = fmt.Sprintf("[[publish]]\ndomains = [%q]\nmode = \"testing\"\nmx = [\"%s\"]\nrua = [%q]\n", domain, strings.Join(d.Policy.MX, `", "`), d.RUA[0])
	}
	s.Records, err = recordsOf(cmd, c, []publish.Domain{d})
	return s, err
}

// mxHosts looks at the MX hosts of a domain, with the code of check.
func (a *app) mxHosts(ctx context.Context, c *config.Config, domain string, timeout time.Duration) ([]setupHost, error) {
	o, done, err := a.checkOptions(c, timeout)
	if err != nil {
		return nil, err
	}
	defer done()
	o.Rules = nil // others have no rules of ours
	report := check.Run(ctx, domain, o)
	if len(report.Hosts) == 0 {
		return nil, fmt.Errorf("%s has no MX host: %w", domain, errors.New(report.Outcome.Text.String()))
	}
	var out []setupHost
	for _, h := range report.Hosts {
		host := setupHost{Name: h.Name}
		for _, session := range h.Sessions {
			switch cert := session.Certificate; {
			case session.STARTTLS.IsZero():
				host.Problem, host.Unreached = "port 25 cannot be reached from here, at "+session.Address, true
			case cert == nil:
				host.Problem = "STARTTLS is " + session.STARTTLS.String() + ", at " + session.Address
			case !cert.Trusted:
				host.Problem = "its certificate is not trusted: " + cert.Why.String()
			case !cert.Named:
				host.Problem = "its certificate is for " + strings.Join(cert.Names, ", ")
			default:
				continue
			}
			break
		}
		if len(h.Sessions) == 0 {
			host.Problem, host.Unreached = "no session with it came about", true
		}
		out = append(out, host)
	}
	return out, nil
}

func (a *app) printPublishSetup(c *config.Config, s *publishSetup) {
	fmt.Fprintf(a.out, "The MX hosts of %s:\n\n", s.Domain)
	for _, h := range s.Hosts {
		switch {
		case h.Problem == "":
			fmt.Fprintf(a.out, "    %s: its certificate is good\n", h.Name)
		case h.Unreached:
			fmt.Fprintf(a.out, "    %s: %s. Whether its certificate is good is not known\n", h.Name, h.Problem)
		default:
			fmt.Fprintf(a.out, "    %s: %s. Senders that obey enforce would not use it\n", h.Name, h.Problem)
		}
	}
	n := 1
	step := func(format string, args ...any) {
		fmt.Fprintf(a.out, "\n%d. "+format+"\n", append([]any{n}, args...)...)
		n++
	}
	file := c.File
	if file == "" {
		file = "the configuration file"
	}
	if !s.Configured {
		step("Add this to %s, with rua where you read reports:\n\n%s", file, s.TOML)
	}
	if c.Publisher.HTTPS == "" {
		step(serveLines, file, c.PublisherHost())
		step("Start the relay anew.")
	} else if !s.Configured {
		step("Run: stsrelay reload")
	}
	last := len(s.Records) - 1
	step("Set these DNS records; the MX records stay as they are. stsrelay publish records %s --format bind\n   prints them as lines of a zone file:\n", s.Domain)
	_ = a.printRecords("table", s.Records[:last]) // to memory or a terminal
	step("When https://%s%s can be read in a browser, set the last\n   record. A certificate by ACME takes some minutes; stsrelay publish renew %s tries at once:\n", publish.PolicyHost(s.Domain), publish.Path, s.Domain)
	_ = a.printRecords("table", s.Records[last:])
	step("stsrelay publish status %s says what is missing, and when it is time for mode enforce.", s.Domain)
}

// serveLines are the step that makes the relay serve policies.
const serveLines = `Set this in %s, too. The relay then serves the policy, with a certificate of
   Let's Encrypt, to whose terms you agree by it:

[publisher]
https = "0.0.0.0:443"
http = "0.0.0.0:80"

[acme]
agree = true

   Ports 443 and 80 of %s must lead to the relay from the Internet. Where port 443 is that of another
   server, or a web server of your own shall serve the policy, docs/publishing.md says how.`
