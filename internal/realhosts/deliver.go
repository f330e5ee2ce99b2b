//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sync/errgroup"
)

// deliver hands all messages to the relay, kills each host in the middle and starts
// it again, and waits until every recipient has an end. The error is that one of
// them has none, or that something broke.
func (w *world) deliver(ctx context.Context, p *plan) error {
	g, ctx := errgroup.WithContext(ctx)
	sent := make(chan struct{})
	g.Go(func() error {
		defer close(sent)
		return w.send(ctx, p)
	})
	err := w.await(ctx, p, g, sent)
	return errors.Join(err, g.Wait())
}

// await reads what arrives. It gives up where nothing arrives for a minute.
func (w *world) await(ctx context.Context, p *plan, g *errgroup.Group, sent <-chan struct{}) error {
	const (
		patience = time.Minute
		settle   = 2 * time.Second // what comes twice comes a little later
	)
	open, since := -1, time.Now()
	for {
		allSent := false
		select {
		case <-sent:
			allSent = true
		default:
		}
		if err := w.look(p); err != nil {
			return err
		}
		for i, h := range w.hosts {
			// One after the other, when a third to two thirds of all was sent.
			moment := len(p.messages)/3 + i*len(p.messages)/(3*len(w.hosts))
			if w.restart && h.killed.IsZero() && int(w.handed.Load()) > moment {
				h.killed = time.Now()
				g.Go(func() error { return h.restart(ctx) })
			}
		}
		n := w.open(p)
		if n != open || !allSent {
			open, since = n, time.Now()
		}
		if n == 0 && allSent && w.queueEmpty(ctx) {
			break
		}
		if time.Since(since) > patience {
			w.showQueue(ctx)
			return fmt.Errorf("%d recipients have no end, and nothing happens any more", n)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d recipients have no end: %w", n, err)
		}
	}
	_ = sleep(ctx, settle)
	return w.look(p)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// look reads what has arrived.
func (w *world) look(p *plan) (err error) {
	for _, h := range w.hosts {
		err = errors.Join(err, w.readArrivals(h, p))
	}
	w.told.take(w.sink.Messages())
	return err
}

// restart kills the host and starts it again a little later.
func (h *host) restart(ctx context.Context) error {
	if err := errors.Join(h.stop(), sleep(ctx, 2*time.Second)); err != nil {
		return err
	}
	if err := h.start(ctx); err != nil {
		return fmt.Errorf("%s does not start a second time: %w\n    %s", h.Name, err, h.lastWords())
	}
	return nil
}

// open is the number of recipients that have no end yet.
func (w *world) open(p *plan) (n int) {
	for _, m := range p.messages {
		for _, r := range m.recipients {
			told := len(w.told.byRecipient[r.address]) > 0
			if len(w.seen.byRecipient[r.address]) == 0 && !told && (r.end == arrives || m.from != "") {
				n++
			}
		}
	}
	return n
}

func (w *world) queueEmpty(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, w.binary, "queue", "list", "--json", "--config", w.path("stsrelay.toml")).Output()
	if err != nil {
		return false
	}
	var list []json.RawMessage
	return json.Unmarshal(out, &list) == nil && len(list) == 0
}

// showQueue prints the messages that have no end, for whoever reads why.
func (w *world) showQueue(ctx context.Context) {
	out, err := exec.CommandContext(ctx, w.binary, "queue", "list", "--config", w.path("stsrelay.toml")).CombinedOutput()
	fmt.Printf("what is in the queue:\n%s", out)
	if err != nil {
		fmt.Println("the queue cannot be read:", err)
	}
}
