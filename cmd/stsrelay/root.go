package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/printable"
	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// version is set by the linker.
var version = "dev"

// defaultConfig is read if it exists and no other file is named.
const defaultConfig = "/etc/stsrelay/stsrelay.toml"

// helpWidth is the width that the flags' texts of --help are folded to, in columns.
const helpWidth = 80

// Exit statuses.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNotRunning = 3
)

// app is what all commands share.
type app struct {
	in io.Reader
	// out and err are for people: control characters of strangers are made harmless for
	// terminals. raw and rawErr are the same files without that.
	out, err    io.Writer
	raw, rawErr io.Writer
	environ     []string
	configFile  string
	json        bool
	// dial replaces net.Dialer in tests of commands that open connections themselves.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// usageError is an error in how a command was called.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }

// errAnswered is the error of a command whose answer is no and was printed already: exit
// status 1, and nothing more is printed.
var errAnswered = errors.New("the answer is no")

// run is main with its surroundings as arguments.
func run(args []string, in io.Reader, out, errOut io.Writer, environ []string) int {
	return newApp(in, out, errOut, environ).run(args)
}

func newApp(in io.Reader, out, errOut io.Writer, environ []string) *app {
	return &app{in: in, out: printable.NewWriter(out), err: printable.NewWriter(errOut), raw: out, rawErr: errOut, environ: environ}
}

// run runs a command and returns the exit status.
func (a *app) run(args []string) int {
	root := a.command()
	root.SetArgs(args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errAnswered):
		return exitFailed
	}
	writeError(a.err, err)
	switch {
	case isUsage(err):
		fmt.Fprintln(a.err, "Try: "+helpOf(cmd))
		return exitUsage
	case errors.Is(err, adminapi.ErrNotRunning):
		return exitNotRunning
	}
	return exitFailed
}

// writeError prints an error, line by line.
func writeError(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(w, "stsrelay: %s\n", line)
	}
}

// isUsage reports whether an error is about how a command was called. The errors that
// cobra makes itself have no type (v1.10.2).
func isUsage(err error) bool {
	if _, ok := errors.AsType[usageError](err); ok || errors.Is(err, adminapi.ErrInvalid) {
		return true
	}
	return slices.ContainsFunc([]string{"unknown command", "unknown flag", "unknown shorthand"}, func(s string) bool { return strings.HasPrefix(err.Error(), s) })
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "stsrelay",
		Short: "A smarthost that delivers over verified TLS where the recipient's domain asks for it",
		Long: `stsrelay takes mail from servers and devices that know nothing of MTA-STS, keeps
it in a queue that loses nothing, and delivers it over verified TLS where the
recipient's domain asks for it.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noCommand(cmd, args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "configuration file (default $STSRELAY_CONFIG, or "+defaultConfig+" where it exists)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.in)
	// cobra does not fold the flags' texts, and many are wider than a terminal.
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "FlagUsages ", fmt.Sprintf("FlagUsagesWrapped %d ", helpWidth)))
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		a.serveCommand(),
		a.setupCommand(),
		a.demoCommand(),
		a.checkCommand(),
		a.queueCommand(), a.historyCommand(),
		a.backupCommand(), a.restoreCommand(),
		a.policyCommand(),
		a.publishCommand(),
		a.reportCommand(),
		a.receivedCommand(),
		a.statusCommand(), a.topCommand(), a.traceCommand(),
		a.fleetCommand(),
		a.reloadCommand(),
		a.configCommand(),
		a.userCommand(),
		a.versionCommand(), a.manCommand(),
	)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // that of cobra takes any word and exits 0
			c.Args, c.RunE = cobra.ArbitraryArgs, belowOnly
		}
	}
	return root
}

// helpCommand is the help command of cobra, with an error for unknown commands.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command", Example: "  stsrelay help queue list",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil {
				return usageError{err}
			}
			if len(rest) > 0 {
				return usageError{fmt.Errorf("there is no command %q%s", strings.Join(args, " "), didYouMean(found, rest[0]))}
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// noArgs and oneArg are like those of cobra, with errors that count as wrong usage.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%q is one argument too many", args[0])}
	}
	return nil
}

func oneArg(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("this command takes one %s", name)}
		}
		return nil
	}
}

// group returns a command that only has others below it.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: belowOnly}
	c.AddCommand(commands...)
	return c
}

// belowOnly runs if the command below a group is missing or unknown.
func belowOnly(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return noCommand(cmd, args[0])
	}
	_ = cmd.Help()
	return usageError{fmt.Errorf("%q needs a command", cmd.Name())}
}

// configPath returns the configuration file to read, "" for none.
func (a *app) configPath() string {
	if a.configFile != "" {
		return a.configFile
	}
	for _, kv := range a.environ {
		if v, ok := strings.CutPrefix(kv, "STSRELAY_CONFIG="); ok && v != "" {
			return v
		}
	}
	if _, err := os.Stat(defaultConfig); err == nil {
		return defaultConfig
	}
	return ""
}

// load reads the configuration.
func (a *app) load() (*config.Config, []config.Warning, error) {
	return config.Load(a.configPath(), a.environ)
}

// client returns a client of the running relay, whose socket the configuration names. A
// configuration with errors must not keep the operator from the running relay.
func (a *app) client() (*adminapi.Client, error) {
	c, _, wrong := a.load()
	if wrong == nil {
		return adminapi.NewClient(c.SocketPath()), nil
	}
	socket, err := config.FindSocket(a.configPath(), a.environ)
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(wrong.Error(), "\n") {
		fmt.Fprintf(a.err, "warning: %s\n", line)
	}
	return adminapi.NewClient(socket), nil
}

// printJSON writes one value.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(printable.NewJSONWriter(a.raw))
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// copyJSON prints the answer of the relay as it is.
func (a *app) copyJSON(r io.Reader) error {
	_, err := io.Copy(printable.NewJSONWriter(a.raw), r)
	return err
}
