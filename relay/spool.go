package relay

import (
	"context"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/fleet"
	"github.com/stsrelay/stsrelay/relay/notify"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// spool is the mail in one store, and the parts that work on it and on nothing else.
type spool struct {
	queue    *queue.Queue
	notices  *notify.Reporter
	reporter *tlsrpt.Reporter // nil: TLS reports are off
	delivery *delivery.Delivery
}

// openSpool opens what is in st. What was opened before an error is in the result.
func (r *Relay) openSpool(st store.Store, damage store.Damage) (s spool, err error) {
	var holds func() bool
	if space, ok := st.(*postgres.Store); ok {
		holds = space.Holds
	}
	c := r.config.Load()
	limits := queueLimits(c)
	s.queue, err = queue.Open(queue.Options{Store: st, Damage: damage, Schedule: schedule(c), DomainLimit: limits.Domain, ClaimLimit: limits.Claims, MaxMessages: limits.Messages, TrashSize: int64(c.Limits.TrashSize), BounceDelay: r.o.BounceDelay, Paused: c.Delivery.Paused, Acted: r.history.AddAction, Noticed: r.history.AddNotice, Logger: r.log})
	if err != nil {
		return s, err
	}
	s.notices = &notify.Reporter{
		Hostname: c.Hostname,
		Language: func() string { return r.config.Load().Notices.Language },
		Content:  s.queue.Open,
	}
	if s.notices.Digest, err = notify.NewDigest(s.notices, st); err != nil {
		return s, err
	}
	if err := s.notices.Load(st); err != nil {
		return s, err
	}
	var neighbors func(context.Context) ([]tlsrpt.Neighbor, error)
	if space, ok := st.(*postgres.Store); ok && space.Space() == fleet.ReportsSpace {
		neighbors = countingRelays(space)
	}
	if s.reporter, err = r.newReporter(st, s.queue, neighbors); err != nil {
		return s, err
	}
	deliverySettings, err := r.sharedSettings(c)
	if err != nil {
		return s, err
	}
	s.delivery = delivery.New(delivery.Options{
		Queue: s.queue, Resolver: r.resolver, Policies: r.policies, Hostname: c.Hostname, Roots: r.roots,
		Dial: r.o.Dial, IsSelf: r.isSelf, Holds: holds, Readers: r.eventReaders(s.notices, s.reporter), Trace: &r.trace, Now: r.o.Now, Settings: deliverySettings, Timeouts: r.o.Timeouts,
		Hellos: r.hellos, Logger: r.log,
	})
	return s, nil
}

// adopt works on a space beside the own one, until ctx ends, the space is asked for, or it
// is that of another relay and nothing waits in it any more.
func (r *Relay) adopt(ctx context.Context, s *postgres.Store) error {
	mail, err := r.openSpool(s, store.Damage{})
	if mail.queue != nil {
		defer mail.queue.Close()
	}
	if err != nil {
		return err
	}
	r.adopted.Store(&mail, true)
	defer r.adopted.Delete(&mail)
	mail.queue.AddPauses(r.queue.Pauses()) // they are of all relays; a reload in between is in them
	defer r.serveOrders(s.Space(), mail.queue, mail.notices, mail.reporter)()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { mail.delivery.Run(ctx, handoverGrace) })
	parts.Go(func() { mail.notices.Digest.Run(ctx, mail.queue, r.log) })
	reports := s.Space() == fleet.ReportsSpace
	if reports && mail.reporter != nil { // all other spaces only count
		r.reports.Store(mail.reporter)
		defer r.reports.Store(nil)
		parts.Go(func() { r.runReports(ctx, mail.reporter) })
	}
	defer stop()
	ticker := time.NewTicker(watchSpaceEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.Err(); err != nil {
			return err
		}
		if s.WantedBy() != "" || !reports && mail.queue.Counts().Messages == 0 && !mail.notices.Digest.Waits() {
			return nil
		}
	}
}

// eachAdopted calls fn for each space that was taken over.
func (r *Relay) eachAdopted(fn func(*spool)) {
	r.adopted.Range(func(s, _ any) bool {
		fn(s.(*spool))
		return true
	})
}

// handoverGrace bounds how long content that is going out delays the handing back of a
// space.
const handoverGrace = 5 * time.Second

// countingRelays returns the spaces whose counts go into the reports that are made in space.
func countingRelays(space *postgres.Store) func(context.Context) ([]tlsrpt.Neighbor, error) {
	return func(ctx context.Context) (list []tlsrpt.Neighbor, err error) {
		all, err := space.Neighbors(ctx)
		for _, n := range all {
			list = append(list, n)
		}
		return list, err
	}
}
