package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/check"
)

func (a *app) checkCommand() *cobra.Command {
	var (
		timeout time.Duration
		self    bool
		from    string
		many    checkMany
	)
	c := &cobra.Command{
		Use:   "check DOMAIN...",
		Short: "Say what this relay would do with mail for a domain, and why",
		Long: `Say what this relay would do with mail for a domain, and why: how its hosts are
found, its MTA-STS record and policy, each host's TLS, certificate and TLSA
records, its TLS-RPT record, what is wrong, by which rule, and how to mend it.
Nothing is sent. The configuration is enough; the relay need not run. Where it
does, the policies in its cache count as they do for its deliveries, and it is
shown what waits for the domain.

Several domains are given as arguments, or one a line in a file; --brief prints
one line for each. With --json, one domain is one object; for several, for
--file and for --brief, each line of the output is the object of one domain.

With --self it looks at the relay itself as others see it: its name and the way
back to it, port 25 to the outside and the clock by the hosts of the given
domains (or of some that the running relay knows), SPF records, DKIM keys, the
resolver.

Exit status 0: mail would go, to each of the domains, whatever else is shown as
FAIL; 1: mail for one of them would wait or bounce, or something of the relay's
own is at fault; with --strict also where anything is shown as FAIL; 2: wrong
usage; 3: --all-queued, and the relay does not run.`,
		Example: "  stsrelay check example.com\n  stsrelay check --brief example.com example.org\n  stsrelay check --file partners.txt --brief --strict\n  stsrelay check --all-queued\n  stsrelay check --self example.com",
		Args: func(cmd *cobra.Command, args []string) error {
			fromFile := cmd.Flags().Changed("file")
			switch {
			case self && (many.queued || fromFile || many.brief || many.strict):
				return usageError{errors.New("--self is about the relay itself, and goes with none of --all-queued, --file, --brief, --strict")}
			case self && from != "":
				return usageError{errors.New("--from is about mail for a domain, not about the relay itself")}
			case self:
			case many.queued && (len(args) > 0 || fromFile):
				return usageError{errors.New("give domains, --file or --all-queued, not both")}
			case !many.queued && !fromFile && len(args) == 0:
				return usageError{errors.New("this command takes domains, --file or --all-queued")}
			case timeout <= 0:
				return usageError{errors.New("--timeout must be longer than nothing, such as 10s")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			conf, _, err := a.load()
			if err != nil {
				return err
			}
			o, done, err := a.checkOptions(conf, timeout)
			if err != nil {
				return err
			}
			defer done()
			client := adminapi.NewClient(conf.SocketPath())
			o.Stored = a.askCache(client)
			if from != "" {
				if o.Sender, err = mailbox.ParseName(from[strings.LastIndexByte(from, '@')+1:]); err != nil {
					return usageError{fmt.Errorf("--from: %w", err)}
				}
			}
			if self {
				return a.checkSelf(cmd.Context(), client, conf, o, args)
			}
			o.Waiting = askQueue(client)
			if o.Published, err = publishedHere(client, conf, o.Resolver); err != nil {
				return err
			}
			many.app = a
			return many.run(cmd.Context(), client, o, args)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long the check of one domain may take")
	c.Flags().StringVar(&from, "from", "", "the sender, an address or a domain, where your rules hang on it (domain.senders)")
	c.Flags().BoolVar(&many.queued, "all-queued", false, "check the domains that wait in the running relay's queue, one line each")
	c.Flags().StringVar(&many.file, "file", "", "check the domains in a file, one a line; # begins a comment; - is standard input")
	c.Flags().BoolVar(&many.brief, "brief", false, "one line for each domain: the outcome, what is asked of a delivery, the worst that was found")
	c.Flags().BoolVar(&many.strict, "strict", false, "exit status 1 where anything is shown as FAIL, also where mail would go")
	c.Flags().BoolVar(&self, "self", false, "check the relay itself")
	return c
}

// checkOptions returns the options of a check from the configuration. done frees what
// they hold.
func (a *app) checkOptions(c *config.Config, timeout time.Duration) (o check.Options, done func(), err error) {
	roots, err := relay.Roots(c)
	if err != nil {
		return o, nil, err
	}
	return relay.CheckOptions(c, roots, a.dialFor(c), timeout)
}

// colour reports whether standard output is a terminal, and colours are not switched
// off (no-color.org).
func (a *app) colour() bool {
	for _, kv := range a.environ {
		if name, value, _ := strings.Cut(kv, "="); name == "NO_COLOR" && value != "" || name == "TERM" && value == "dumb" {
			return false
		}
	}
	f, ok := a.raw.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
