package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// setupAnswers are what a first configuration depends on.
type setupAnswers struct {
	dir, listen       string
	hostname, domain  string
	postmaster, allow string
	exchange          bool
	noCheck           bool

	networks []string // of allow
}

func (a *app) setupCommand() *cobra.Command {
	var s setupAnswers
	c := &cobra.Command{
		Use: "setup", Short: "Write a first configuration, and say what else is to be done", Args: noArgs,
		Long: `Write a first configuration with its DKIM key, and print the DNS records to
publish and, for Exchange, the commands for its side. At a terminal it asks for
what the flags do not say; elsewhere --hostname, --allow and --domain are
needed. Root's files go to /etc/stsrelay, with the data in /var/lib/stsrelay;
those of others to the present folder. Nothing is overwritten: where there is a
stsrelay.toml, the new one is stsrelay.toml.new.

At the end it checks the relay itself, as check --self does.`,
		Example: "  stsrelay setup\n  stsrelay setup --hostname relay.example.com --allow 10.0.0.0/24 \\\n    --domain example.com --exchange",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.setup(cmd, &s) },
	}
	f := c.Flags()
	f.StringVar(&s.dir, "dir", "", "folder of the configuration (default: /etc/stsrelay for root, else the present one)")
	f.StringVar(&s.hostname, "hostname", "", "the relay's name: it must resolve, and its address must resolve back")
	f.StringVar(&s.allow, "allow", "", "networks that may send, separated by commas: 10.0.0.0/24,10.1.2.3")
	f.StringVar(&s.domain, "domain", "", "the senders' domain: what is mailed from it is signed by DKIM")
	f.StringVar(&s.postmaster, "postmaster", "", "who is told of problems (default: postmaster@ the domain)")
	f.StringVar(&s.listen, "listen", "", "address to take mail at (default 0.0.0.0:25 for root, else 0.0.0.0:2525)")
	f.BoolVar(&s.exchange, "exchange", false, "the mail comes from Exchange Server: print the commands for its side")
	f.BoolVar(&s.noCheck, "no-check", false, "do not check the relay itself at the end")
	return c
}

func (a *app) setup(cmd *cobra.Command, s *setupAnswers) error {
	if cmd.Flags().Changed("config") {
		return usageError{errors.New("setup reads no configuration: the folder of the one that it writes is named by --dir")}
	}
	s.defaults(os.Geteuid() == 0)
	file := filepath.Join(s.dir, "stsrelay.toml")
	if exists(file) {
		if file += ".new"; exists(file) {
			return fmt.Errorf("%s is there from an earlier setup, and nothing is overwritten: remove it, or name another folder by --dir", file)
		}
	}
	if a.interactive() {
		if err := a.ask(cmd, s); err != nil {
			return err
		}
	}
	if err := s.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return fmt.Errorf("the folder of the configuration: %w", err)
	}
	key := filepath.Join(s.dir, "dkim-"+setupSelector+".pem")
	created, err := makeKey(dkim.RSA, key)
	if err == nil && created {
		err = giveToGroup(s.dir, key)
	}
	if err != nil {
		return err
	}
	described, err := describeKey(s.domain, setupSelector, key, []string{"mail", "reports"})
	if err != nil {
		return err
	}
	if err := writeNew(file, s.configuration()); err != nil {
		return err
	}
	c, _, err := config.Load(file, a.environ)
	if err != nil {
		return fmt.Errorf("the configuration was written, and has a fault: %w", err)
	}
	a.printSteps(s, file, &described)
	if s.noCheck {
		return nil
	}
	return a.checkAfterSetup(cmd.Context(), c)
}

// setupSelector is the selector of the key that setup makes.
const setupSelector = "stsrelay"

// defaults fills in what depends on who runs the command.
func (s *setupAnswers) defaults(root bool) {
	dir, listen := ".", "0.0.0.0:2525"
	if root {
		dir, listen = filepath.Dir(defaultConfig), "0.0.0.0:25"
	}
	if s.dir == "" {
		s.dir = dir
	}
	if s.listen == "" {
		s.listen = listen
	}
}

// ask asks for what no flag has said.
func (a *app) ask(cmd *cobra.Command, s *setupAnswers) error {
	in := bufio.NewReader(a.in)
	host, _ := os.Hostname()
	questions := []struct {
		flag, text string
		value      *string
		proposal   func() string
		check      func(string) error
	}{
		{"hostname", "Name of this relay, as others see it", &s.hostname, func() string { return host }, checkName},
		{"allow", "Networks that may send, separated by commas", &s.allow, func() string { return "" }, func(v string) error { _, err := parseNetworks(v); return err }},
		{"domain", "Domain of the senders", &s.domain, func() string { _, d, _ := strings.Cut(s.hostname, "."); return d }, checkName},
		{"postmaster", "Who is told of problems", &s.postmaster, func() string { return "postmaster@" + s.domain }, checkMailbox},
	}
	for _, q := range questions {
		if cmd.Flags().Changed(q.flag) {
			continue
		}
		if err := a.askOne(in, q.text, q.proposal(), q.value, q.check); err != nil {
			return err
		}
	}
	if cmd.Flags().Changed("exchange") {
		return nil
	}
	answer := ""
	err := a.askOne(in, "Does the mail come from Exchange Server (y/n)", "n", &answer, func(v string) error {
		if v = strings.ToLower(v); v != "y" && v != "n" && v != "yes" && v != "no" {
			return errors.New("please answer y or n")
		}
		return nil
	})
	s.exchange = strings.HasPrefix(strings.ToLower(answer), "y")
	return err
}

// askOne asks until the answer is right. An empty one is the proposal.
func (a *app) askOne(in *bufio.Reader, text, proposal string, value *string, check func(string) error) error {
	for {
		fmt.Fprint(a.err, text)
		if proposal != "" {
			fmt.Fprintf(a.err, " [%s]", proposal)
		}
		fmt.Fprint(a.err, ": ")
		line, err := in.ReadString('\n')
		answer := strings.TrimSpace(line)
		if err != nil && answer == "" {
			return errors.New("there was no answer; nothing was written")
		}
		if answer == "" {
			answer = proposal
		}
		wrong := check(answer)
		if wrong == nil {
			*value = answer
			return nil
		}
		fmt.Fprintf(a.err, "  %v\n", wrong)
		if err != nil {
			return errors.New("the last answer cannot be used; nothing was written")
		}
	}
}

// check checks the answers, and fills in those that follow from others.
func (s *setupAnswers) check() (err error) {
	for _, needed := range []struct{ flag, value string }{{"--hostname", s.hostname}, {"--allow", s.allow}, {"--domain", s.domain}} {
		if needed.value == "" {
			return usageError{errors.New(needed.flag + " is missing, and there is no terminal to ask at")}
		}
	}
	if s.networks, err = parseNetworks(s.allow); err != nil {
		return usageError{fmt.Errorf("--allow: %w", err)}
	}
	if _, err := netip.ParseAddrPort(s.listen); err != nil {
		return usageError{fmt.Errorf("--listen: %q is no address with a port, such as 0.0.0.0:25", s.listen)}
	}
	if err := checkName(s.hostname); err != nil {
		return usageError{fmt.Errorf("--hostname: %w", err)}
	}
	if err := checkName(s.domain); err != nil {
		return usageError{fmt.Errorf("--domain: %w", err)}
	}
	if s.postmaster == "" {
		s.postmaster = "postmaster@" + s.domain
	}
	if err := checkMailbox(s.postmaster); err != nil {
		return usageError{fmt.Errorf("--postmaster: %w", err)}
	}
	s.normalize()
	return nil
}

// normalize gives names the form that they have in the DNS: a zone file has no letters
// outside ASCII, and an SPF record no final dot. They were checked.
func (s *setupAnswers) normalize() {
	s.hostname, _ = mailbox.ParseName(s.hostname)
	s.domain, _ = mailbox.ParseName(s.domain)
	m, _ := mailbox.Parse(s.postmaster)
	s.postmaster = m.String()
}

func checkName(name string) error {
	d, err := mailbox.ParseName(name)
	if err == nil && (!strings.Contains(d, ".") || strings.HasPrefix(d, "[")) {
		return fmt.Errorf("%q must be a full name, such as relay.example.com", name)
	}
	return err
}

func checkMailbox(address string) error {
	_, err := mailbox.Parse(address)
	return err
}

// parseNetworks reads a list of networks and addresses. The whole Internet is none.
func parseNetworks(list string) (out []string, err error) {
	for n := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		var network config.Network
		if err := network.UnmarshalText([]byte(n)); err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		if p := netip.Prefix(network); p.Bits() < 8 {
			return nil, fmt.Errorf("%s is a great part of the Internet: whoever is in it could send mail in your name", n)
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, errors.New("name the networks of your mail servers, such as 10.0.0.0/24")
	}
	return out, nil
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

// writeNew writes a file that must not be there yet.
func writeNew(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640) //nolint:gosec // it has no secret; the group of the relay reads it
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return giveToGroup(filepath.Dir(file), file)
}

// checkAfterSetup checks the relay itself. What is missing then is no fault of the setup:
// most of it is still to be published.
func (a *app) checkAfterSetup(ctx context.Context, c *config.Config) error {
	o, done, err := a.checkOptions(c, setupCheckTime)
	if err != nil {
		return err
	}
	defer done()
	fmt.Fprintf(a.out, "\nThe relay as others see it now (again by: stsrelay check --self):\n\n")
	if err := a.checkSelf(ctx, adminapi.NewClient(c.SocketPath()), c, o, nil); !errors.Is(err, errAnswered) {
		return err
	}
	return nil
}
