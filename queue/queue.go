// Package queue owns every message from the commit that accepts it until each
// of its recipients has an end: delivered, bounced, or removed by the operator.
//
// It knows what is due, hands out work fairly by recipient domain, lets a
// domain that fails as a whole rest, and keeps what became of each attempt. It
// knows nothing of SMTP, DNS or TLS: what a message goes through is decided by
// those who Claim it.
//
// A message is split into units: the recipients of one domain, at most
// MaxUnit of them. A unit is what is due, what is claimed by one worker, and
// what one attempt has a result for. What is due is known from memory, rebuilt
// at start from the envelopes; claims are never stored, so a crash leaves no
// lock behind. docs/store.md describes the keys.
package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// MaxUnit is the number of recipients that go in one SMTP transaction at most.
const MaxUnit = 100

// ErrNotFound says that there is no message of that ID in the queue.
var ErrNotFound = errors.New("no such message in the queue")

// ErrAmbiguous says that the beginning of an ID fits several messages.
var ErrAmbiguous = errors.New("several messages have an ID that begins so")

// ErrFull says that the queue holds as many messages as Options.MaxMessages.
var ErrFull = errors.New("the queue is full")

// Options configures Open. Store is required.
type Options struct {
	Store Store
	// Schedule says when a failed attempt is made again. Default DefaultSchedule.
	Schedule Schedule
	// DomainLimit is how many units of one domain are claimed at a time. Default 20.
	DomainLimit int
	// ClaimLimit is how many units are claimed at a time in all, until their
	// results are durable: no crash makes more deliveries twice than that. 0:
	// no bound.
	ClaimLimit int
	// MaxMessages bounds the length of the queue; 0: no bound.
	MaxMessages int
	// TrashSize bounds the octets of what was removed and can be restored; 0:
	// nothing can.
	TrashSize int64
	// Paused starts the queue with delivery paused.
	Paused bool
	// Damage is what was found in the store. Messages whose values cannot be read
	// are held, and where anything was found no orphan is swept: it may be what is
	// left of a message.
	Damage store.Damage
	// Now is the wall clock; default time.Now. What is due when within one run
	// of the process does not depend on it.
	Now func() time.Time
	// Logger gets what concerns a message; nil discards it.
	Logger *slog.Logger
}

// Schedule is when attempts are made.
type Schedule struct {
	// Retry are the waits after the first, second, … failed attempt; the last
	// one repeats. Each is varied by ±20 %.
	Retry []time.Duration
	// Expire is the age at which a message is given up.
	Expire time.Duration
	// Tell is the age from which a message is late. Where its domain rests then, it
	// is claimed for its sender to be told (Work.Waits). 0: never.
	Tell time.Duration
}

// DefaultSchedule is the documented default of the configuration.
func DefaultSchedule() Schedule {
	return Schedule{
		Retry:  []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour},
		Expire: 5 * 24 * time.Hour,
		Tell:   4 * time.Hour,
	}
}

// wait is the time after the given number of failed attempts, with jitter.
func (s Schedule) wait(attempts int) time.Duration {
	d := s.Retry[min(max(attempts-1, 0), len(s.Retry)-1)]
	return time.Duration(float64(d) * (0.8 + 0.4*mathrand.Float64()))
}

// Queue is an open queue. Its methods may be called from many goroutines.
type Queue struct {
	store Store
	log   *slog.Logger
	now   func() time.Time
	epoch time.Time // due times count from here, by the monotonic clock

	wake    chan struct{} // capacity 1: something may have become due
	endWake chan struct{} // capacity 1: something that was given up may be ready to be ended

	importing atomic.Bool
	buffers   buffers
	follower  *follower
	ending    sync.Mutex // one message is given up at a time; taken before mu

	mu          sync.Mutex
	schedule    Schedule
	domainLimit int
	claimLimit  int
	maxMessages int
	paused      bool
	byID        map[ID]*entry
	first, last *entry // all entries by sequence number, open ones too
	aging       *entry // the first that may not be late yet, nil for none
	domains     map[string]*domain
	// Domains with something to claim now: those that took mail lately, new ones, of
	// which nothing is claimed and that did not fail, and the others. turn is the
	// ring whose turn it was; newest, that the last new one was the last to come.
	readyProven, readyNew, ready ring
	turn                         int
	newest                       bool
	proven                       proven
	sleeping                     domainHeap // domains by the time that they have something
	counts                       Counts
	rush                         rush
	inFlight                     map[*unit]uint16 // attempts made before the claim
	giveUps                      map[*entry][]*giveUp
	trash                        trash
	markPending                  bool
	nextSeq                      uint64
	leasedSeq                    uint64
	entropy                      *ulid.MonotonicEntropy
	lastMS                       uint64
	lowWritten                   uint64

	stop       func()
	background sync.WaitGroup
}

// entry is what is kept in memory of a message.
type entry struct {
	seq        uint64
	id         ID
	units      []unit
	single     [1]unit // where units are if there is but one, mostly: one object less for the garbage collector
	prev, next *entry
	receivedAt int64 // on the queue's own clock
	left       int32 // units that are not done
	accepted   bool
	held       bool
	gone       bool // no longer in the queue
	stateKept  bool // there are records beside the envelope
	report     bool // a TLS report
	unreadable bool // the store cannot read it
}

// unit is what is kept in memory of the recipients of one domain.
type unit struct {
	msg        *entry
	domain     *domain
	sibling    siblings // in the domain, until it is done
	due        int64    // on the queue's own clock
	heapIndex  int32    // in the domain's heap; -1 where it is not waiting
	recipients int32    // not at their end yet
	number     uint16
	attempts   uint16
	lane       lane
	done       bool
	active     bool // claimed, until the commit that ends the claim
	other      bool // claimed while its domain was not proven
	sending    bool // claimed, and its content goes out or has gone out
	told       bool // the sender knows that it is late, or need not
}

type siblings struct{ prev, next *unit }

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
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	q := &Queue{
		store:       o.Store,
		log:         o.Logger,
		now:         o.Now,
		epoch:       time.Now(),
		wake:        make(chan struct{}, 1),
		endWake:     make(chan struct{}, 1),
		schedule:    o.Schedule,
		domainLimit: o.DomainLimit,
		claimLimit:  o.ClaimLimit,
		maxMessages: o.MaxMessages,
		trash:       trash{limit: o.TrashSize},
		paused:      o.Paused,
		byID:        make(map[ID]*entry),
		domains:     make(map[string]*domain),
		inFlight:    make(map[*unit]uint16),
		giveUps:     make(map[*entry][]*giveUp),
		entropy:     ulid.Monotonic(rand.Reader, 0),
		follower:    newFollower(),
	}
	unwatch := q.store.Watch(store.PrefixMessage, q.follower.changed) // before the scan: nothing falls between
	sound, err := q.rebuild()
	if err != nil {
		unwatch()
		return nil, fmt.Errorf("rebuild the queue: %w", err)
	}
	q.holdDamaged(o.Damage.Keys)
	ctx, stop := context.WithCancel(context.Background())
	q.stop = func() {
		unwatch()
		stop()
	}
	firstNew := q.nextSeq
	if sound && len(o.Damage.Keys) == 0 && len(o.Damage.Said) == 0 {
		q.background.Go(func() { q.sweepOrphans(ctx, firstNew) })
	}
	q.background.Go(func() { q.keepLow(ctx) })
	q.background.Go(func() { q.sweepTrash(ctx) })
	q.background.Go(func() { q.follow(ctx) })
	q.background.Go(func() { q.endGivenUp(ctx) })
	return q, nil
}

// Close stops the background work of the queue. Messages that are still being
// accepted or delivered must have ended before. The store stays open.
func (q *Queue) Close() {
	q.stop()
	q.background.Wait()
}

// SetSchedule changes retry times and expiry; what is already due stays so. No
// retry times: DefaultSchedule.
func (q *Queue) SetSchedule(s Schedule) {
	if len(s.Retry) == 0 {
		s = DefaultSchedule()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.Tell != q.schedule.Tell {
		q.nothingLate()
	}
	q.schedule = s
	q.signal()
}

// Counts returns the totals of the queue.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}

// Active is how many units are claimed, until their results are durable.
func (q *Queue) Active() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.inFlight)
}

// Oldest is how long the oldest message that is not held has been in the queue,
// 0 where there is none. It looks at every message: imported ones are not in the
// order of their arrival.
func (q *Queue) Oldest() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock()
	oldest := now
	for e := q.first; e != nil; e = e.next {
		if e.accepted && !e.held {
			oldest = min(oldest, e.receivedAt)
		}
	}
	return time.Duration(now - oldest)
}

// Paused says whether delivery as a whole is paused.
func (q *Queue) Paused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.paused
}

// SetPaused pauses or resumes delivery as a whole: nothing is claimed while it
// is paused. It is forgotten at the next start.
func (q *Queue) SetPaused(paused bool) {
	q.mu.Lock()
	q.paused = paused
	q.mu.Unlock()
	q.signal()
}

// write submits what nobody waits for and what must happen: it waits while the
// disk is full.
func (q *Queue) write(b *store.Batch) {
	b.Patient()
	q.store.Submit(b, nil)
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// clock is the queue's own clock: nanoseconds since the queue was opened. Steps
// of the wall clock do not move it.
func (q *Queue) clock() int64 { return int64(time.Since(q.epoch)) }

// wall turns a time of the queue's own clock into wall-clock time.
func (q *Queue) wall(at int64) time.Time {
	return q.now().Add(time.Duration(at - q.clock())).UTC().Round(0)
}

const sequenceLease = 1 << 20

// newEntry makes the entry of a new message, with a sequence number that was
// never used before: numbers are reserved in the store, by a commit that comes
// before every commit that uses one of them.
func (q *Queue) newEntry() *entry {
	if q.nextSeq >= q.leasedSeq {
		q.leasedSeq = q.nextSeq + sequenceLease
		var b store.Batch
		b.Set(keySeq, binary.BigEndian.AppendUint64(nil, q.leasedSeq))
		q.write(&b)
	}
	e := &entry{seq: q.nextSeq, id: q.newID()}
	q.nextSeq++
	q.link(e)
	return e
}

// newID makes the next ID; a clock set back does not make it smaller.
func (q *Queue) newID() ID {
	q.lastMS = max(q.lastMS, ulid.Timestamp(q.now()))
	id, err := ulid.New(q.lastMS, q.entropy)
	for err != nil { // the entropy of this millisecond is used up
		q.lastMS++
		id, err = ulid.New(q.lastMS, q.entropy)
	}
	return id
}

func (q *Queue) link(e *entry) {
	e.prev = q.last
	if q.last == nil {
		q.first = e
	} else {
		q.last.next = e
	}
	q.last = e
}

func (q *Queue) unlink(e *entry) {
	if q.aging == e {
		q.aging = e.next
	}
	if e.prev == nil {
		q.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		q.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
}

// admit takes a message whose commit is done into the schedule.
func (q *Queue) admit(e *entry, env *Envelope) {
	now := q.clock()
	e.receivedAt = now - int64(max(q.now().Sub(env.ReceivedAt), 0))
	q.index(e, env)
	for i := range e.units {
		q.wait(&e.units[i])
		q.place(e.units[i].domain, now)
	}
}

// index takes an accepted message into memory, each unit due at once.
func (q *Queue) index(e *entry, env *Envelope) {
	e.accepted = true
	e.report = env.Kind == Report
	e.id = env.ID
	q.byID[e.id] = e
	groups := split(env.Recipients)
	if e.units = e.single[:]; len(groups) > 1 {
		e.units = make([]unit, len(groups))
	}
	e.left = int32(len(groups))
	for i, g := range groups {
		e.units[i] = unit{
			msg:        e,
			due:        e.receivedAt,
			heapIndex:  -1,
			recipients: int32(len(g)),
			number:     uint16(i),
			lane:       laneOf(env),
			told:       env.From == "", // nobody can be
		}
		q.domain(env.Recipients[g[0]].Domain).join(&e.units[i])
		q.counts.Recipients += len(g)
	}
	q.counts.Messages++
	q.watch(e)
}

// split groups the recipients by domain, at most MaxUnit in a group. It gives
// the same answer for the same envelope for ever: units are known by number.
func split(recipients []Recipient) [][]int {
	if len(recipients) == 1 {
		return [][]int{{0}}
	}
	var groups [][]int
	open := make(map[string]int) // domain → group with room
	for i, r := range recipients {
		g, ok := open[r.Domain]
		if !ok || len(groups[g]) == MaxUnit {
			g = len(groups)
			open[r.Domain] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}
