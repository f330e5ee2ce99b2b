package fleet

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

const (
	// pollOrders is the time between two looks for orders where no notification comes.
	pollOrders = time.Second
	// sweepEvery is the time between two looks for orders whose askers have gone.
	sweepEvery = time.Minute
)

// Execute executes the orders of operators for the spaces that this relay holds, until ctx
// ends, and waits for those that have begun. find returns what executes those for a space;
// nil: the space is not open here, or not yet.
func Execute(ctx context.Context, url, holder string, find func(space string) func(context.Context, []byte) []byte, log *slog.Logger) error {
	d, err := postgres.NewDirectory(url, holder)
	if err != nil {
		return err
	}
	defer d.Close()
	e := executor{url: url, holder: holder, find: find, log: log}
	defer e.work.Wait()
	swept := time.Time{}
	for ctx.Err() == nil {
		err := e.look(ctx, d)
		if err == nil && time.Since(swept) > sweepEvery {
			swept = time.Now()
			err = d.SweepOrders(ctx)
		}
		if err == nil {
			err = d.WaitForOrder(ctx, pollOrders)
		}
		if err != nil && ctx.Err() == nil {
			log.Debug("orders for this relay cannot be read", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(pollOrders):
			}
		}
	}
	return nil
}

// executor executes orders.
type executor struct {
	url, holder string
	find        func(space string) func(context.Context, []byte) []byte
	log         *slog.Logger
	work        sync.WaitGroup
}

// look begins the orders that wait.
func (e *executor) look(ctx context.Context, d *postgres.Directory) error {
	list, err := d.Orders(ctx, e.holder)
	if err != nil {
		return err
	}
	for _, o := range list {
		execute := e.find(o.Space)
		if execute == nil {
			continue
		}
		mine, err := d.Begin(ctx, o)
		if err != nil {
			return err
		}
		if mine {
			e.work.Go(func() { e.execute(ctx, o, execute) })
		}
	}
	return nil
}

// execute executes an order and answers it, on a connection of its own: an order may take
// long.
func (e *executor) execute(ctx context.Context, o postgres.Order, execute func(context.Context, []byte) []byte) {
	answer := execute(ctx, o.Content)
	d, err := postgres.NewDirectory(e.url, e.holder)
	if err == nil {
		defer d.Close()
		err = d.Answer(context.WithoutCancel(ctx), o, answer)
	}
	if err != nil {
		e.log.Warn("the order of an operator was executed, and the answer is lost", "space", o.Space, "error", err)
	}
}
