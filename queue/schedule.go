package queue

import (
	"container/heap"
	"time"
)

// lane orders mail of people before what the relay itself writes, and keeps what
// may go while other mail has to wait from standing behind it.
type lane uint8

const (
	laneExpired  lane = iota // to be given up, whatever rests
	laneFreeLate             // as free, and late (late.go)
	laneFree                 // mail that nothing binds which the domain asks for
	laneMailLate
	laneMail
	laneReport // of the relay's own, as free
	laneOwn
	lanes
)

func laneOf(env *Envelope) lane {
	switch {
	case env.Kind == Report:
		return laneReport
	case env.Kind != Mail:
		return laneOwn
	case env.TLSOptional && !env.RequireTLS:
		return laneFree
	}
	return laneMail
}

// free says that what a domain asks for does not bind what is in the lane.
func (l lane) free() bool { return l == laneFree || l == laneFreeLate || l == laneReport }

// domain is the waiting mail of one recipient domain.
type domain struct {
	name    string
	waiting [lanes]unitHeap
	first   *unit // of those that are not done, the last to join first; for listings
	active  int   // units claimed
	total   int   // units not done: waiting, active, held
	limit   int   // units that may be active

	// A domain whose hosts all fail rests: nothing of it is claimed until
	// restUntil, then one unit goes first as a probe.
	restStep  int // rests in a row; 0: it does not rest
	restUntil int64
	rests     Reason // why it rests
	restBound bool   // only what the domain's demands bind rests

	last Reason // of the last attempt that did not end a unit

	wakeAt    int64
	heapIndex int   // in Queue.sleeping; -1
	inRing    *ring // that it is in, nil for none
}

func (q *Queue) domain(name string) *domain {
	d := q.domains[name]
	if d == nil {
		d = &domain{name: name, limit: q.domainLimit, heapIndex: -1}
		q.domains[name] = d
	}
	d.total++
	return d
}

// join makes u one of the units of d, leave ends that.
func (d *domain) join(u *unit) {
	u.domain = d
	u.sibling.next = d.first
	if d.first != nil {
		d.first.sibling.prev = u
	}
	d.first = u
}

func (d *domain) leave(u *unit) {
	s := u.sibling
	if s.prev == nil {
		d.first = s.next
	} else {
		s.prev.sibling.next = s.next
	}
	if s.next != nil {
		s.next.sibling.prev = s.prev
	}
	u.sibling = siblings{}
	d.total--
}

// next returns the lane and the time of the domain's next claim.
func (d *domain) next(now int64, rush *rush) (l lane, at int64, ok bool) {
	for i := range d.waiting {
		if len(d.waiting[i]) == 0 || d.active >= d.allowed(lane(i), now) {
			continue
		}
		due := now
		if !d.tells(lane(i), now) {
			due = d.startOf(d.waiting[i][0])
		}
		due = rush.putOff(due, now)
		if !ok || due < at && at > now {
			l, at, ok = lane(i), due, true
		}
	}
	return l, at, ok
}

// resting says whether what is in a lane waits for the rest to end.
func (d *domain) resting(l lane) bool {
	return d.restStep > 0 && l != laneExpired && !(d.restBound && l.free())
}

// startOf is when u may be tried.
func (d *domain) startOf(u *unit) int64 {
	if d.resting(u.lane) {
		return max(u.due, d.restUntil)
	}
	return u.due
}

func (d *domain) allowed(l lane, now int64) int {
	if d.resting(l) && !d.tells(l, now) {
		return 1 // the probe
	}
	return d.limit
}

// place puts the domain where it belongs after a change: into the ring where
// it has something to claim now, among the sleepers where it will, nowhere
// where it waits for a claim to end, and out of memory where nothing is left.
func (q *Queue) place(d *domain, now int64) {
	_, at, ok := d.next(now, &q.rush)
	switch {
	case ok && at <= now:
		q.awake(d)
		q.ringOf(d, now).push(d)
	case ok:
		d.wakeAt = at
		if d.heapIndex < 0 {
			heap.Push(&q.sleeping, d)
		} else {
			heap.Fix(&q.sleeping, d.heapIndex)
		}
	default:
		q.awake(d)
		if d.total == 0 && d.active == 0 && q.domains[d.name] == d {
			delete(q.domains, d.name)
		}
	}
}

func (q *Queue) awake(d *domain) {
	if d.heapIndex >= 0 {
		heap.Remove(&q.sleeping, d.heapIndex)
	}
}

// wait puts u among its domain's waiting units, unless it is to be given up. The
// caller places the domain.
func (q *Queue) wait(u *unit) {
	if u.heapIndex < 0 && !u.msg.held && !u.msg.gone && !u.done && !u.active && !q.givenUp(u) {
		heap.Push(&u.domain.waiting[u.lane], u)
	}
}

// unwait takes u out of them.
func (q *Queue) unwait(u *unit) {
	if u.heapIndex >= 0 {
		heap.Remove(&u.domain.waiting[u.lane], int(u.heapIndex))
	}
}

// stalledPoll is how often Claim looks whether the store can write again.
const stalledPoll = 200 * time.Millisecond

// claimNext claims the unit whose turn it is, nil where none is due; then
// wakeAt is when the next one will be, -1 where none is known of. Nothing is
// claimed while the store cannot write: each delivery would be made a second
// time after the next start.
func (q *Queue) claimNext(now int64) (w *Work, wakeAt int64) {
	if q.paused || q.atLimit() {
		return nil, -1 // the change of that wakes
	}
	if q.store.Stalled() {
		return nil, now + int64(stalledPoll)
	}
	wakeAt = q.makeLate(now)
	for len(q.sleeping) > 0 && q.sleeping[0].wakeAt <= now {
		q.place(q.sleeping[0], now)
	}
	for d := q.nextDomain(); d != nil; d = q.nextDomain() {
		if w := q.claimIn(d, now); w != nil {
			return w, 0
		}
	}
	if len(q.sleeping) > 0 && (wakeAt < 0 || q.sleeping[0].wakeAt < wakeAt) {
		wakeAt = q.sleeping[0].wakeAt
	}
	return nil, wakeAt
}

// ringOf is the ring in which a domain waits for its turn.
func (q *Queue) ringOf(d *domain, now int64) *ring {
	switch {
	case q.proven.holds(d.name, now):
		return &q.readyProven
	case d.restStep == 0 && d.active == 0:
		return &q.readyNew
	}
	return &q.ready
}

// nextDomain is the domain whose turn it is, nil where there is none. Domains that
// took mail lately, new ones, and the others take turns, while there is a place for
// all. Where places become few, every second new one is the one that came last: it
// does not wait behind ten thousand silent ones.
func (q *Queue) nextDomain() *domain {
	if q.reserved() {
		return q.readyProven.pop()
	}
	rings := [...]*ring{&q.readyProven, &q.readyNew, &q.ready}
	q.turn = (q.turn + 1) % len(rings)
	rings[0], rings[q.turn] = rings[q.turn], rings[0]
	for _, r := range rings {
		last := false
		if r == &q.readyNew && q.fewLeft() {
			q.newest = !q.newest
			last = q.newest
		}
		if d := r.popAt(last); d != nil {
			return d
		}
	}
	return nil
}

// atLimit says that as many units are claimed as may be.
func (q *Queue) atLimit() bool { return q.claimLimit > 0 && len(q.inFlight) >= q.claimLimit }

// claimIn claims the next unit of d, if it may be claimed now.
func (q *Queue) claimIn(d *domain, now int64) *Work {
	var w *Work
	if l, at, ok := d.next(now, &q.rush); ok && at <= now {
		u := heap.Pop(&d.waiting[l]).(*unit)
		u.active = true
		d.active++
		w = &Work{q: q, unit: u, Rests: d.restStep, Domain: d.name, Attempts: int(u.attempts),
			Age: time.Duration(now - u.msg.receivedAt), Expired: q.expired(u.msg, now), recorded: u.msg.stateKept}
		if d.tells(l, now) && !w.Expired {
			w.Waits = d.rests
		} else {
			q.inFlight[u] = u.attempts
			if u.other = !q.proven.holds(d.name, now); u.other {
				q.proven.claimed++
			}
		}
	}
	q.place(d, now)
	return w
}

// free makes u claimable again, and what the operator has given up ready to be
// ended. The caller waits and places.
func (q *Queue) free(u *unit) {
	u.active, u.sending = false, false
	delete(q.inFlight, u)
	if u.other {
		u.other = false
		q.proven.claimed--
	}
	if len(q.giveUps[u.msg]) > 0 {
		select {
		case q.endWake <- struct{}{}:
		default:
		}
	}
}

// rest lets d rest after it failed as a whole, or (bound) for what its demands
// bind: as long as the schedule says for so many failures in a row, but no longer
// than until its next retry. What is too old by now does not wait with the rest;
// it has its own due times.
func (q *Queue) rest(d *domain, now int64, why Reason, bound bool) {
	d.restStep++
	d.rests, d.restBound = why, bound
	q.proven.failed(d.name)
	until := now + int64(q.schedule.wait(d.restStep))
	var old []*unit
	for l := range lanes {
		if !d.resting(l) {
			continue
		}
		for _, u := range d.waiting[l] {
			if u.due > now {
				until = min(until, u.due)
			}
			if q.expired(u.msg, now) {
				old = append(old, u)
			}
		}
	}
	for _, u := range old {
		q.unwait(u)
		u.lane = laneExpired
		q.wait(u)
	}
	d.restUntil = until
}

func (q *Queue) expired(e *entry, now int64) bool {
	expire := q.expiry(e)
	return expire > 0 && time.Duration(now-e.receivedAt) >= expire
}

// reportExpiry is how long a TLS report is tried (RFC 8460, 5.5): the next one
// is due then.
const reportExpiry = 24 * time.Hour

// expiry is the age at which e is given up, 0 for never.
func (q *Queue) expiry(e *entry) time.Duration {
	if e.report && (q.schedule.Expire == 0 || q.schedule.Expire > reportExpiry) {
		return reportExpiry
	}
	return q.schedule.Expire
}

// worked tells d that a unit of it went through: its rest ends, and it may
// have twice as many units active, up to the limit or to what its hosts take.
func (q *Queue) worked(d *domain, parallel int) {
	if d.restStep > 0 {
		d.restStep, d.rests, d.restBound = 0, Reason{}, false
		d.limit = 1
	}
	d.limit = min(2*d.limit, max(q.domainLimit, parallel))
}

// unitHeap orders units by due time.
type unitHeap []*unit

func (h unitHeap) Len() int { return len(h) }
func (h unitHeap) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].msg.seq < h[j].msg.seq
}
func (h unitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = int32(i), int32(j)
}
func (h *unitHeap) Push(x any) {
	u := x.(*unit)
	u.heapIndex = int32(len(*h))
	*h = append(*h, u)
}
func (h *unitHeap) Pop() any {
	old := *h
	u := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	u.heapIndex = -1
	return u
}

// domainHeap orders sleeping domains by the time that they wake.
type domainHeap []*domain

func (h domainHeap) Len() int           { return len(h) }
func (h domainHeap) Less(i, j int) bool { return h[i].wakeAt < h[j].wakeAt }
func (h domainHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}
func (h *domainHeap) Push(x any) {
	d := x.(*domain)
	d.heapIndex = len(*h)
	*h = append(*h, d)
}
func (h *domainHeap) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	d.heapIndex = -1
	return d
}

// ring hands out domains in turn. A domain that was put into another ring
// meanwhile is passed over.
type ring struct {
	domains []*domain
	head    int
}

func (r *ring) push(d *domain) {
	if d.inRing == r {
		return
	}
	d.inRing = r
	if r.head > 0 && r.head == len(r.domains) {
		r.domains, r.head = r.domains[:0], 0
	}
	r.domains = append(r.domains, d)
}

func (r *ring) pop() *domain { return r.popAt(false) }

// popAt takes the first domain out, or the one that came last.
func (r *ring) popAt(last bool) *domain {
	for last && r.head < len(r.domains) {
		n := len(r.domains) - 1
		d := r.domains[n]
		r.domains[n] = nil
		r.domains = r.domains[:n]
		if d.inRing == r {
			d.inRing = nil
			return d
		}
	}
	for r.head < len(r.domains) {
		d := r.domains[r.head]
		r.domains[r.head] = nil
		r.head++
		if r.head > 1024 && 2*r.head > len(r.domains) {
			n := copy(r.domains, r.domains[r.head:])
			clear(r.domains[n:])
			r.domains, r.head = r.domains[:n], 0
		}
		if d.inRing == r {
			d.inRing = nil
			return d
		}
	}
	return nil
}

// empty reports whether no domain is in the ring.
func (r *ring) empty() bool {
	for r.head < len(r.domains) && r.domains[r.head].inRing != r {
		r.domains[r.head] = nil
		r.head++
	}
	return r.head == len(r.domains)
}
