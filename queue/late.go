package queue

import "github.com/stsrelay/stsrelay/internal/store"

// A message is late from the age of Schedule.Tell on. The next attempt tells its
// sender. Where there is none, because the domain rests, its units are claimed to
// tell and for nothing else. A unit is in the late lane of its kind from then on
// until its sender knows: which ones are to be told costs no looking for.

// lateLooks bounds the entries that are looked at under one lock.
const lateLooks = 20_000

// late is the lane of what is late and not told; where that is not told of, it
// is the same lane.
func (l lane) late() lane {
	switch l {
	case laneMail:
		return laneMailLate
	case laneFree:
		return laneFreeLate
	}
	return l
}

// inTime is the opposite of late.
func (l lane) inTime() lane {
	switch l {
	case laneMailLate:
		return laneMail
	case laneFreeLate:
		return laneFree
	}
	return l
}

// tells says that a claim of what is in the lane is none to try it but to tell
// its sender. Once the rest is over nobody is told: the probe comes first, and all
// of the mail may go after it.
func (d *domain) tells(l lane, now int64) bool {
	return l != l.inTime() && d.resting(l) && now < d.restUntil
}

// watch lets makeLate look at e, and again at what came after it.
func (q *Queue) watch(e *entry) {
	if q.aging == nil || e.seq < q.aging.seq {
		q.aging = e
	}
}

// makeLate finds what has become late. It returns when there will be more, -1 for
// nothing known of. Messages become late in the order in which they came; an
// imported one waits for those before it.
func (q *Queue) makeLate(now int64) (wakeAt int64) {
	if q.schedule.Tell == 0 {
		return -1
	}
	for range lateLooks {
		e := q.aging
		if e == nil {
			return -1
		}
		if e.accepted {
			if at := e.receivedAt + int64(q.schedule.Tell); at > now {
				return at
			}
			for i := range e.units {
				if u := &e.units[i]; !u.done && !u.told {
					q.change(u, u.lane.late(), now)
				}
			}
		}
		q.aging = e.next
	}
	return now
}

// nothingLate makes makeLate begin anew.
func (q *Queue) nothingLate() {
	now := q.clock()
	for e := q.first; e != nil; e = e.next {
		for i := range e.units {
			u := &e.units[i]
			q.change(u, u.lane.inTime(), now)
		}
	}
	q.aging = q.first
}

// change brings u into another lane.
func (q *Queue) change(u *unit, l lane, now int64) {
	if u.lane == l {
		return
	}
	q.unwait(u)
	u.lane = l
	q.wait(u)
	q.place(u.domain, now)
}

// isTold is called for a unit that does not wait when its sender knows.
func (u *unit) isTold() {
	u.told = true
	u.lane = u.lane.inTime()
}

// Told ends a claim that Waits: the sender is told by notices, which come into the
// queue in the commit that remembers it. No notices: none is owed, and nothing is
// written. Either way the unit waits with its domain again. Told returns at once.
func (q *Queue) Told(w *Work, notices []NewMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u, e := w.unit, w.unit.msg
	u.isTold()
	if len(notices) == 0 || e.gone { // of what is gone nobody is told
		q.unclaim(u)
		return
	}
	var b store.Batch
	b.Patient()
	b.Unhurried()
	ifUntold(u, int(u.attempts), &b)
	own := q.addOwn(notices, &b)
	for _, p := range w.pos {
		w.record.States[p].Delayed = true
	}
	w.record.Attempts = int(u.attempts)
	w.record.NextAttempt = q.wall(u.due)
	b.Set(unitKey(e.seq, int(u.number)), encode(w.record))
	e.stateKept = true
	q.store.Submit(&b, func(err error) { q.finished(u, own, err) })
	q.signal()
}
