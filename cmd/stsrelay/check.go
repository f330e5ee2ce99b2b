package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/operator"
)

const (
	// checksAtOnce is how many domains of the queue are checked at the same time.
	checksAtOnce = 8
	// cacheTime is how long the running relay may take to answer what is in its cache.
	cacheTime = time.Second
)

func (a *app) checkCommand() *cobra.Command {
	var (
		timeout      time.Duration
		queued, self bool
		from         string
	)
	c := &cobra.Command{
		Use:   "check DOMAIN",
		Short: "Say what this relay would do with mail for a domain, and why",
		Long: `Say what this relay would do with mail for a domain, and why: how its hosts are
found, its MTA-STS record and policy, each host's TLS, certificate and TLSA
records, its TLS-RPT record, what is wrong, by which rule, and how to mend it.
Nothing is sent. The configuration is enough; the relay need not run. Where it
does, the policies in its cache count as they do for its deliveries.

With --self it looks at the relay itself as others see it: its name and the way
back to it, port 25 to the outside and the clock by the hosts of the given
domains (or of some that the running relay knows), SPF records, DKIM keys, the
resolver.

Exit status 0: mail would go; 1: it would wait or bounce, or something of the
relay's own is at fault.`,
		Example: "  stsrelay check example.com\n  stsrelay check --all-queued\n  stsrelay check --self example.com",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case self && queued:
				return usageError{errors.New("give --self or --all-queued, not both")}
			case self:
			case queued && len(args) > 0:
				return usageError{errors.New("give a domain or --all-queued, not both")}
			case !queued && len(args) != 1:
				return usageError{errors.New("this command takes one domain, or --all-queued")}
			case from != "" && self:
				return usageError{errors.New("--from is about mail for a domain, not about the relay itself")}
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
			switch {
			case self:
				return a.checkSelf(cmd.Context(), client, conf, o, args)
			case queued:
				return a.checkQueued(cmd.Context(), client, o)
			}
			return a.checkOne(cmd.Context(), args[0], o)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long the whole may take")
	c.Flags().StringVar(&from, "from", "", "the sender, an address or a domain, where your rules hang on it (domain.senders)")
	c.Flags().BoolVar(&queued, "all-queued", false, "check the domains that wait in the running relay's queue, one line each")
	c.Flags().BoolVar(&self, "self", false, "check the relay itself")
	return c
}

func (a *app) checkOne(ctx context.Context, arg string, o check.Options) error {
	// An address stands for its domain.
	domain, err := mailbox.ParseName(arg[strings.LastIndexByte(arg, '@')+1:])
	if err != nil {
		return usageError{err}
	}
	report := check.Run(ctx, domain, o)
	if a.json {
		err = a.printJSON(report)
	} else {
		err = report.Text(a.raw, a.colour())
	}
	if err == nil && !report.Outcome.Deliverable {
		err = errAnswered
	}
	return err
}

// askCache asks the running relay for the entry of a domain in its policy cache. If a
// relay runs and does not answer, a warning says so once: the result of the check may
// differ from that of a delivery.
func (a *app) askCache(client *adminapi.Client) func(ctx context.Context, domain string) []byte {
	var once sync.Once
	return func(ctx context.Context, domain string) []byte {
		ctx, cancel := context.WithTimeout(ctx, cacheTime)
		defer cancel()
		var value []byte
		body, err := client.Open(ctx, http.MethodGet, "/v1/policies/"+url.PathEscape(domain)+"/stored", nil, nil)
		if err == nil {
			value, err = io.ReadAll(body)
			body.Close()
		}
		if err != nil && !errors.Is(err, adminapi.ErrNotRunning) {
			once.Do(func() {
				fmt.Fprintf(a.err, "stsrelay: the running relay does not say what is in its policy cache; only what is published counts here: %v\n", err)
			})
		}
		return value
	}
}

// queuedCheck is one domain of --all-queued.
type queuedCheck struct {
	Domain   string        `json:"domain"`
	Messages int           `json:"messages"`
	Outcome  check.Outcome `json:"outcome"`
}

// checkQueued checks the domains for which mail waits, several at the same time, and
// prints the results in the order of the queue.
func (a *app) checkQueued(ctx context.Context, client *adminapi.Client, o check.Options) error {
	var summary []operator.DomainSummary
	if err := client.Get(ctx, "/v1/summary", nil, &summary); err != nil {
		return err
	}
	results := make([]chan queuedCheck, len(summary))
	slots := make(chan struct{}, checksAtOnce)
	for i, s := range summary {
		results[i] = make(chan queuedCheck, 1)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] <- queuedCheck{s.Domain, s.Messages, check.Run(ctx, s.Domain, o).Outcome}
		}()
	}
	all, deliverable := make([]queuedCheck, len(summary)), true
	for i := range summary {
		all[i] = <-results[i]
		deliverable = deliverable && all[i].Outcome.Deliverable
		if !a.json {
			fmt.Fprintf(a.out, "%s  %s  %s: %s\n", check.Mark(all[i].Outcome.Deliverable, a.colour()), all[i].Domain, human.Plural(all[i].Messages, "message"), all[i].Outcome.Text)
		}
	}
	switch {
	case a.json:
		if err := a.printJSON(all); err != nil {
			return err
		}
	case len(all) == 0:
		fmt.Fprintln(a.out, "nothing is queued")
	}
	if !deliverable {
		return errAnswered
	}
	return nil
}

// checkOptions returns the options of a check from the configuration. done frees what
// they hold.
func (a *app) checkOptions(c *config.Config, timeout time.Duration) (o check.Options, done func(), err error) {
	roots, err := relay.Roots(c)
	if err != nil {
		return o, nil, err
	}
	return relay.CheckOptions(c, roots, a.dial, timeout)
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
