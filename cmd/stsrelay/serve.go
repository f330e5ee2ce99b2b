package main

import (
	"context"
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

	"github.com/stsrelay/stsrelay/config"
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
	level := new(slog.LevelVar)
	_ = level.UnmarshalText([]byte(c.Log.Level)) // checked by config
	sink, log := newLogSink(printable.NewJSONWriter(a.rawErr), c.Log.Format, level)
	defer func() {
		// A reader that stalls does not keep the relay from ending.
		ctx, cancel := context.WithTimeout(context.Background(), logGrace)
		defer cancel()
		_ = sink.Close(ctx)
	}()
	for _, w := range warnings {
		log.Warn(string(w))
	}
	a.oneMoreThread()
	// A SIGHUP that comes while the relay starts is served after the start. It would end
	// the process if nobody waited for it.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
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
		return printTo(sink, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var signals sync.WaitGroup
	signals.Go(func() { reloadOnHangup(ctx, r, hangup) })
	err = r.Run(ctx, nil)
	cancel()
	signals.Wait()
	if err != nil {
		return printTo(sink, fmt.Errorf("the relay has stopped: %w", err))
	}
	return nil
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
