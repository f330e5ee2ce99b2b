// Package queue owns every message from the commit that accepts it until each
// of its recipients has an end: delivered, bounced, or removed by the operator.
//
// It knows what is due, shares claims fairly among recipient domains, backs off from a
// domain that fails as a whole, and records the results of each attempt. It knows nothing
// of SMTP, DNS or TLS: the caller of Claim delivers.
//
// A message is split into recipient groups: the recipients of one domain, at most
// MaxGroup of them. A group is what is due, what is claimed by one worker, and
// what one attempt has a result for. What is due is known from memory
// (queue/scheduler), rebuilt at start from the envelopes; claims are never stored,
// so a crash leaves no lock behind. docs/store.md describes the keys.
//
// Queue is the lock and the store around the scheduler. Its methods lock; those
// whose name ends with Locked must be called with Queue.mu held. Methods of the
// scheduler never lock.
package queue

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// MaxGroup is the number of recipients that go in one SMTP transaction at most.
const MaxGroup = 100

// ErrNotFound is returned if no message in the queue has the given ID.
var ErrNotFound = phrase.Errorf("no such message in the queue")

// ErrAmbiguous is returned if the IDs of several messages begin as given.
var ErrAmbiguous = phrase.Errorf("several messages have an ID that begins so")

// ErrFull is returned if the queue holds as many messages as Options.MaxMessages.
var ErrFull = phrase.Errorf("the queue is full")

// Schedule is when attempts are made.
type Schedule = scheduler.Schedule

// Options configures Open. Store is required.
type Options struct {
	Store store.Store
	// Schedule is when attempts are made again. Default DefaultSchedule.
	Schedule Schedule
	// DomainLimit is how many groups of one domain are claimed at a time. Default 20.
	DomainLimit int
	// ClaimLimit is how many groups are claimed at a time in all, until their
	// results are durable: no crash makes more deliveries twice than that. 0:
	// no bound.
	ClaimLimit int
	// MaxMessages bounds the length of the queue; 0: no bound.
	MaxMessages int
	// TrashSize bounds the size of the trash in octets; 0: removed messages cannot be
	// restored.
	TrashSize int64
	// BounceDelay is how long Bounce waits, so that UndoBounces can stop it; 0: it does not
	// wait.
	BounceDelay time.Duration
	// Paused starts the queue with delivery paused.
	Paused bool
	// Acted is told what the operator did to recipients of a message; nil: nobody is. It
	// must not wait for anything.
	Acted func(*Action)
	// Noticed is told of a notice about a message, with its envelope, when it is durable;
	// nil: nobody is. It must not wait for anything.
	Noticed func(about *Envelope, notice *Envelope)
	// Damage is the damage that was found in the store. Messages whose values cannot be
	// read are held. If there is any damage, bodies without an envelope are not deleted:
	// their envelope may be what is damaged.
	Damage store.Damage
	// Now is the wall clock; default time.Now. Within one run of the process due times do
	// not depend on it.
	Now func() time.Time
	// Logger is the log; nil: none.
	Logger *slog.Logger
}

// DefaultSchedule is the documented default of the configuration.
func DefaultSchedule() Schedule {
	return Schedule{
		Retry:        []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour},
		Expire:       5 * 24 * time.Hour,
		DelayWarning: 4 * time.Hour,
	}
}

// Limits are the bounds of Options that may change while the queue is open.
type Limits struct {
	Domain   int // Options.DomainLimit; at least 1
	Claims   int // Options.ClaimLimit
	Messages int // Options.MaxMessages
}

// Queue is an open queue. Its methods may be called from many goroutines.
type Queue struct {
	store      store.Store
	log        *slog.Logger
	acted      func(*Action)
	noticed    func(about, notice *Envelope)
	clock      clock
	wake       signal // a group may have become due
	buffers    buffers
	timers     timers
	addresses  addressFilters
	fresh      fresh
	inFlight   inFlight
	trash      trash
	importing  atomic.Bool // one import runs at a time
	draining   atomic.Bool // and one drain
	background background

	bounceDelay   time.Duration
	cancellations cancellations // its lock is taken before mu

	mu          sync.Mutex // guards what follows, and the entries of the scheduler
	scheduler   *scheduler.Scheduler
	byID        map[ID]*scheduler.Entry
	maxMessages int
	unreadable  int // messages that the store cannot read
	sequence    sequence
	seen        seenRecord
	ids         idSource
	pauses      pauses
	handover    handover
}

// background is the work that goes on while the queue is open.
type background struct {
	stop context.CancelFunc
	work sync.WaitGroup
}

// Open rebuilds the queue from its store.
func Open(o Options) (*Queue, error) {
	if len(o.Schedule.Retry) == 0 {
		o.Schedule = DefaultSchedule()
	}
	if o.DomainLimit == 0 {
		o.DomainLimit = 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Acted == nil {
		o.Acted = func(*Action) {}
	}
	if o.Noticed == nil {
		o.Noticed = func(*Envelope, *Envelope) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Queue{
		store:         o.Store,
		log:           o.Logger,
		acted:         o.Acted,
		noticed:       o.Noticed,
		clock:         clock{wall: o.Now, epoch: time.Now()},
		wake:          newSignal(),
		addresses:     newAddressFilters(),
		trash:         trash{limit: o.TrashSize},
		bounceDelay:   o.BounceDelay,
		cancellations: newCancellations(),
		handover:      newHandover(),
		scheduler: scheduler.New(scheduler.Options{
			Schedule: o.Schedule,
			Limits:   scheduler.Limits{Domain: o.DomainLimit, Claims: o.ClaimLimit},
		}),
		byID:        make(map[ID]*scheduler.Entry),
		maxMessages: o.MaxMessages,
		ids:         newIDSource(),
	}
	sound, err := q.rebuild()
	if err != nil {
		return nil, fmt.Errorf("rebuild the queue: %w", err)
	}
	if err := q.readPauses(o.Paused); err != nil {
		return nil, err
	}
	q.holdDamaged(o.Damage.Keys)
	ctx, stop := context.WithCancel(context.Background())
	q.background.stop = stop
	firstNew := q.sequence.next
	if sound && len(o.Damage.Keys) == 0 && len(o.Damage.Said) == 0 {
		q.background.work.Go(func() { q.sweepOrphans(ctx, firstNew) })
	}
	q.background.work.Go(func() { q.keepLow(ctx) })
	q.background.work.Go(func() { q.sweepTrash(ctx) })
	q.background.work.Go(func() { q.applyCancellations(ctx) })
	return q, nil
}

// Close stops the background work of the queue. Messages that are still being
// accepted or delivered must have ended before. The store stays open.
func (q *Queue) Close() {
	q.background.stop()
	q.background.work.Wait()
}

// SetSchedule changes the schedule; due times that are set stay so. Without retry times
// it is DefaultSchedule.
func (q *Queue) SetSchedule(s Schedule) {
	if len(s.Retry) == 0 {
		s = DefaultSchedule()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.scheduler.SetSchedule(s, q.clock.now())
	q.wake.raise()
}

// SetLimits changes the limits. Claims and messages that exceed lower ones stay; a domain
// reaches a higher one as its groups are delivered.
func (q *Queue) SetLimits(l Limits) {
	q.mu.Lock()
	q.scheduler.SetLimits(scheduler.Limits{Domain: l.Domain, Claims: l.Claims})
	q.maxMessages = l.Messages
	q.mu.Unlock()
	q.wake.raise()
}

// Counts returns the totals of the queue.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.scheduler.Counts()
	return Counts{Messages: c.Messages, Recipients: c.Recipients, Held: c.Held, Unreadable: q.unreadable}
}

// Reasons returns how many deliveries wait or are under way, each of a message to at most
// MaxGroup recipients of one domain, by the code of the reason of their last attempt; "" for
// those that were not tried. It looks at no message.
func (q *Queue) Reasons() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.scheduler.Reasons()
}

// Active is how many groups are claimed, until their results are durable.
func (q *Queue) Active() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.scheduler.Claims()
}

// Oldest returns the age of the oldest message that is not held, 0 if there is none. It
// looks at every message, because imported ones are not in the order of their arrival.
func (q *Queue) Oldest() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.now()
	oldest := now
	for e := q.scheduler.First(); e != nil; e = e.Next() {
		if e.Accepted && !e.Held {
			oldest = min(oldest, e.ReceivedAt)
		}
	}
	return now.Sub(oldest)
}

// PlacesShort reports whether a group is due that cannot be claimed because a limit is
// reached: that of all claims, or that of claims for domains that took no mail lately.
func (q *Queue) PlacesShort() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.scheduler.PlacesShort(q.clock.now())
}

// write submits a batch that must be written and that nobody waits for: while the disk is
// full, it stays pending.
func (q *Queue) write(b *store.Batch) {
	b.RetryWhenFull()
	q.store.Submit(b, nil)
}

// permitted reports whether the scheduler has made a change, err being its answer. A
// change that it refuses is a fault of this package, and is logged.
func (q *Queue) permitted(e *scheduler.Entry, err error) bool {
	if err != nil {
		q.log.Error("a change of a message was refused, which is a fault of this program", "queue_id", ID(e.ID).String(), "error", err)
	}
	return err == nil
}

// enterLocked makes the entry of a new message.
func (q *Queue) enterLocked() *scheduler.Entry {
	n, lease := q.sequence.take()
	if lease != nil {
		q.write(lease)
	}
	e := &scheduler.Entry{Seq: n, ID: q.ids.next(q.clock.wall())}
	q.scheduler.Enter(e)
	return e
}

// admitLocked schedules a message whose commit is done.
func (q *Queue) admitLocked(e *scheduler.Entry, env *Envelope) {
	now := q.clock.now()
	q.acceptLocked(e, env, now)
	q.permitted(e, q.scheduler.Start(e, now))
}

// acceptLocked adds an accepted message to memory; its groups are due at once.
func (q *Queue) acceptLocked(e *scheduler.Entry, env *Envelope, now scheduler.Time) {
	e.ID, e.Addresses = env.ID, q.addresses.of(env)
	q.byID[env.ID] = e
	groups := split(env.Recipients)
	q.scheduler.Accept(e, scheduler.Mail{
		ReceivedAt: q.clock.since(env.ReceivedAt, now),
		Priority:   priorityOf(env),
		Report:     env.Kind == Report,
		NoSender:   env.From == "",
	}, len(groups), func(i int) (string, int) { return env.Recipients[groups[i][0]].Domain, len(groups[i]) })
}

func priorityOf(env *Envelope) scheduler.Priority {
	if env.Kind != Mail {
		return scheduler.Priority{Generated: true, PolicyFree: env.Kind == Report}
	}
	return scheduler.Priority{PolicyFree: env.TLSOptional && !env.RequireTLS}
}

// discardLocked removes a message from memory that was not accepted.
func (q *Queue) discardLocked(e *scheduler.Entry) {
	q.permitted(e, q.scheduler.Remove(e, q.clock.now()))
}

// forgetLocked removes an accepted message from memory.
func (q *Queue) forgetLocked(e *scheduler.Entry) {
	q.permitted(e, q.scheduler.Remove(e, q.clock.now()))
	delete(q.byID, e.ID)
	q.buffers.put(q.fresh.forget(e.Seq))
	q.readableLocked(e)
}

// oneGroup is the result of split for one recipient. Nobody changes it.
var oneGroup = [][]int{{0}}

// split groups the recipients by domain, at most MaxGroup in a group. The result for an
// envelope must never change: groups are known by number. It must not be changed.
func split(recipients []Recipient) [][]int {
	if len(recipients) == 1 {
		return oneGroup
	}
	var groups [][]int
	open := make(map[string]int) // domain → group with room
	for i, r := range recipients {
		g, ok := open[r.Domain]
		if !ok || len(groups[g]) == MaxGroup {
			g = len(groups)
			open[r.Domain] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}
