package relay

import (
	"context"

	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/fleet"
	"github.com/stsrelay/stsrelay/relay/notify"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// operatorFleet is the other relays as the operator sees them, nil where this one is alone.
func (r *Relay) operatorFleet() *operator.Fleet {
	if r.space == nil {
		return nil
	}
	return &operator.Fleet{Name: r.space.Space(), Reports: fleet.ReportsSpace, Others: r.otherQueues, Ask: r.askRelay}
}

// directory opens the directory of the fleet, for one task.
func (r *Relay) directory() (*postgres.Directory, error) {
	o, err := spaceOptions(r.config.Load())
	if err != nil {
		return nil, err
	}
	return postgres.NewDirectory(o.URL, o.Space)
}

// otherQueues returns the queues beside the own one, with what the engine has of them.
func (r *Relay) otherQueues(ctx context.Context) (list []operator.Other, err error) {
	d, err := r.directory()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	spaces, err := d.Spaces(ctx)
	if err != nil {
		return nil, err
	}
	stores, err := r.space.Neighbors(ctx)
	if err != nil {
		return nil, err
	}
	for i := range spaces {
		for _, n := range stores {
			if s := &spaces[i]; n.Name == s.Name {
				list = append(list, operator.Other{Space: s.Name, Holder: s.Holder, Messages: s.Messages, Store: n})
			}
		}
	}
	return list, nil
}

// askRelay hands an order of the operator to the relay that holds a space.
func (r *Relay) askRelay(ctx context.Context, space string, order []byte) ([]byte, error) {
	d, err := r.directory()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Ask(ctx, postgres.Order{Space: space, Content: order})
}

// executeOrders executes what operators at other relays order for the spaces that this
// relay holds, until ctx ends.
func (r *Relay) executeOrders(ctx context.Context) error {
	o, err := spaceOptions(r.config.Load())
	if err != nil {
		return err
	}
	return fleet.Execute(ctx, o.URL, o.Space, func(space string) func(context.Context, []byte) []byte {
		if at, ok := r.executors.Load(space); ok {
			return at.(*operator.Operator).Execute
		}
		return nil
	}, r.log)
}

// serveOrders lets the orders for a space be executed in a queue, until the function that
// it returns is called.
func (r *Relay) serveOrders(space string, q *queue.Queue, notices *notify.Reporter, reporter *tlsrpt.Reporter) (end func()) {
	r.executors.Store(space, operator.New(operator.Options{
		Queue: q, Reports: r.reportsNow, History: r.history, Hostname: r.config.Load().Hostname, Version: r.o.Version, Status: r.status,
		Notice: func(m queue.Message, reason string) *queue.NewMessage { return gaveUp(notices, reporter, m, reason) }, Logger: r.log,
	}))
	return func() { r.executors.Delete(space) }
}

// gaveUp returns the notice for a message, or recipients of it, that the operator has
// bounced, nil for none. If it is a report, its reporter is told.
func gaveUp(notices *notify.Reporter, reporter *tlsrpt.Reporter, m queue.Message, reason string) *queue.NewMessage {
	if m.Kind == queue.Report && reporter != nil {
		reporter.Mailed(context.Background(), m.ID.String(), "the operator gave its mail up")
	}
	n, ok := notices.Removed(m, reason)
	if !ok {
		return nil
	}
	return &n
}
