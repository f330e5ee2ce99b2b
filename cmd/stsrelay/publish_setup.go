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
		return nil, fmt.Errorf("%s has no MX host: %w", domain, errors.New(report.Outcome.Text))
	}
	var out []setupHost
	for _, h := range report.Hosts {
		host := setupHost{Name: h.Name}
		for _, session := range h.Sessions {
			switch cert := session.Certificate; {
			case session.STARTTLS == "":
				host.Problem = "it could not be reached from here, at " + session.Address
			case cert == nil:
				host.Problem = "STARTTLS is " + session.STARTTLS + ", at " + session.Address
			case !cert.Trusted:
				host.Problem = "its certificate is not trusted: " + cert.Why
			case !cert.Named:
				host.Problem = "its certificate is for " + strings.Join(cert.Names, ", ")
			default:
				continue
			}
			break
		}
		if len(h.Sessions) == 0 {
			host.Problem = "no session with it came about"
		}
		out = append(out, host)
	}
	return out, nil
}

func (a *app) printPublishSetup(c *config.Config, s *publishSetup) {
	fmt.Fprintf(a.out, "The MX hosts of %s:\n\n", s.Domain)
	for _, h := range s.Hosts {
		if h.Problem == "" {
			fmt.Fprintf(a.out, "    %s: its certificate is good\n", h.Name)
		} else {
			fmt.Fprintf(a.out, "    %s: %s. Senders that obey enforce would not use it\n", h.Name, h.Problem)
		}
	}
	n := 1
	step := func(format string, args ...any) {
		fmt.Fprintf(a.out, "\n%d. "+format+"\n", append([]any{n}, args...)...)
		n++
	}
	if !s.Configured {
		file := c.File
		if file == "" {
			file = "the configuration file"
		}
		step("Add this to %s, with rua where you read reports, then run: stsrelay reload\n\n%s", file, s.TOML)
	}
	if c.Publisher.HTTPS == "" {
		step("Set [publisher] https, so that the relay serves the policy (docs/publishing.md), and start it anew;\n   or serve what stsrelay publish export writes with a web server of your own.")
	}
	step("Set these DNS records, in this order; the MX records stay as they are:\n")
	_ = a.printRecords("table", s.Records) // to memory or a terminal
	step("stsrelay publish status %s says what is missing, and when it is time for mode enforce.", s.Domain)
}
