package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/container"
	"github.com/stsrelay/stsrelay/internal/logsink"
	"github.com/stsrelay/stsrelay/internal/printable"
	"github.com/stsrelay/stsrelay/internal/sdnotify"
	"github.com/stsrelay/stsrelay/relay"
)

// bounceDelay is how long queue undo can stop a bounce.
const bounceDelay = time.Minute

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the relay", Args: noArgs,
		Long: `Run the relay in the foreground until SIGTERM or SIGINT. SIGHUP reads the
configuration and the certificates again. Without any configuration it listens
on 127.0.0.1:2525 and keeps its data in ./stsrelay-data.`,
		Example: "  stsrelay serve --config /etc/stsrelay/stsrelay.toml",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context()) },
	}
}

func (a *app) serve(ctx context.Context) error {
	c, warnings, err := a.load()
	if err != nil {
		return err
	}
	defer private()()
	level := new(slog.LevelVar)
	_ = level.UnmarshalText([]byte(c.Log.Level)) // checked by config
	sink, log := newLogSink(printable.NewJSONWriter(a.rawErr), a.logFormat(c.Log.Format), level)
	defer func() {
		// A reader that stalls does not keep the relay from ending.
		ctx, cancel := context.WithTimeout(context.Background(), logGrace)
		defer cancel()
		_ = sink.Close(ctx)
	}()
	for _, w := range warnings {
		log.Warn("the configuration has a warning", "warning", string(w))
	}
	if container.Look(a.environ).Inside {
		warnOfVolume(log, c.DataDir, container.VolumeOf(c.DataDir))
	}
	a.oneMoreThread()
	// A SIGHUP that comes while the relay starts is served after the start. It would end
	// the process if nobody waited for it.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		err := a.relayUntil(ctx, c, sink, log, level, hangup)
		if !errors.Is(err, relay.ErrSpaceLost) || ctx.Err() != nil {
			if err != nil {
				return printTo(sink, err)
			}
			return nil
		}
		log.Warn("the relay starts anew: another relay has taken its messages over", "error", err)
	}
}

// relayUntil runs a relay until ctx ends.
func (a *app) relayUntil(ctx context.Context, c *config.Config, sink *logsink.Sink, log *slog.Logger, level *slog.LevelVar, hangup <-chan os.Signal) error {
	r, err := relay.New(relay.Options{
		BounceDelay: bounceDelay,
		Config:      c, Version: version, Logger: log, LogDropped: sink.Dropped, Level: level,
		Manager: sdnotify.New(a.environ, os.Getpid()),
		Load: func() (*config.Config, error) {
			c, _, err := a.load()
			return c, err
		},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var signals sync.WaitGroup
	signals.Go(func() { reloadOnHangup(ctx, r, hangup) })
	err = r.Run(ctx, nil)
	cancel()
	signals.Wait()
	if err != nil {
		return fmt.Errorf("the relay has stopped: %w", err)
	}
	return nil
}

// logFormat returns the format of the log: where "auto" is set, text for people at a
// terminal, and JSON elsewhere.
func (a *app) logFormat(set string) string {
	if set != "auto" {
		return set
	}
	if f, ok := a.rawErr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return "text"
	}
	return "json"
}

// warnOfVolume warns that a container's data does not outlive it.
func warnOfVolume(log *slog.Logger, dataDir string, v container.Volume) {
	const remedy = "run the container with a named volume, -v stsrelay:/var/lib/stsrelay, or with a folder of the host"
	switch v {
	case container.Layer:
		log.Warn("data_dir is in the container itself, and goes when the container is removed: mail is lost with it", "data_dir", dataDir, "helps", remedy)
	case container.Anonymous:
		log.Warn("data_dir is in a volume without a name: a new container gets another one, and \"docker run --rm\" removes it: mail is lost with it", "data_dir", dataDir, "helps", remedy)
	case container.Lasting:
	}
}

// logGrace is how long a stop waits for the last lines of the log to be read.
const logGrace = time.Second

// newLogSink returns a log that never waits for its reader.
func newLogSink(w io.Writer, format string, level slog.Leveler) (*logsink.Sink, *slog.Logger) {
	// Without this a write to a broken pipe on standard error ends the process.
	signal.Ignore(syscall.SIGPIPE)
	sink := logsink.New(logsink.Options{Writer: w, Resumed: func(s *logsink.Sink, dropped uint64) {
		newLogger(s, format, level).Warn("lines of the log were dropped: whoever reads standard error did not keep up", "lines", dropped)
	}})
	return sink, newLogger(sink, format, level)
}

// printTo prints an error to the sink of the log, whose reader may stall, and returns
// errAnswered, so that it is not printed again.
func printTo(w io.Writer, err error) error {
	writeError(w, err)
	return errAnswered
}

// oneMoreThread lets one more thread than there are processors run Go code. The
// committer of the store is nearly always in msync, and its thread counts as running
// until the scheduler of Go notices: without one more thread a processor would be idle.
// GOMAXPROCS in the environment takes precedence.
func (a *app) oneMoreThread() {
	if !slices.ContainsFunc(a.environ, func(kv string) bool { return strings.HasPrefix(kv, "GOMAXPROCS=") }) {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

// reloadOnHangup reloads at each SIGHUP until ctx ends. Errors are in the log.
func reloadOnHangup(ctx context.Context, r *relay.Relay, hangup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			_ = r.Reload(ctx)
		}
	}
}

func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
