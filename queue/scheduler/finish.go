package scheduler

import "time"

// Outcome is what an attempt at a group led to.
type Outcome struct {
	// Left is the number of recipients that are to be tried again.
	Left int
	// Delivered reports whether a host accepted the message for a recipient.
	Delivered bool
	// DelayNotified reports whether the sender knows of the delay for all that are left.
	DelayNotified bool
	// Reason is why the last of these was not delivered; zero: not known.
	Reason Reason
	// RetryAfter, if not zero, replaces the schedule's next wait.
	RetryAfter time.Duration
	// Backoff is zero if the domain could be reached.
	Backoff DomainBackoff
	// BackoffStep is Claim.BackoffStep.
	BackoffStep int
	// Parallel is the number of groups that the hosts of the domain accept at a time; 0:
	// not known. More than Limits.Domain may be claimed then.
	Parallel int
}

// Release ends a claim as if it had not been made: the group is due as before.
func (s *Scheduler) Release(g *Group, now Time) error {
	to := g.atRest()
	if g.state == Removed {
		to = Done
	}
	return s.moveFrom(g, Claimed, Removed, to, now)
}

// Postpone ends a claim that was no attempt: the group is due after d.
func (s *Scheduler) Postpone(g *Group, d time.Duration, now Time) error {
	if g.state == Claimed {
		g.Due = now.Add(d)
	}
	return s.Release(g, now)
}

// Finish applies the results of an attempt to the group and its domain. The claim goes on
// until Recorded or Unrecorded.
func (s *Scheduler) Finish(g *Group, o Outcome, now Time) error {
	if !g.state.inHand() {
		return &StateError{Domain: g.Domain.Name, From: g.state, To: Recording}
	}
	removed := g.state == Removed
	to := Recording
	if removed || o.Left == 0 {
		to = Closing
	}
	if err := s.become(g, to); err != nil {
		return err
	}
	if !removed {
		g.Attempts++
	}
	if to == Recording {
		s.counts.Recipients -= int(g.Recipients) - o.Left
		g.Recipients = int32(o.Left)
		g.Due = s.nextDue(g, &o, now)
		g.Domain.Last = o.Reason
		s.reasons.change(g, o.Reason.Code)
		if o.DelayNotified {
			g.delayNotified()
		}
	}
	s.applyToDomain(g, &o, now)
	s.reschedule(g.Domain, now)
	return nil
}

// nextDue returns when g is tried again: not after the time at which it expires.
func (s *Scheduler) nextDue(g *Group, o *Outcome, now Time) Time {
	wait := o.RetryAfter
	if wait == 0 {
		wait = s.Wait(int(g.Attempts))
	}
	due := now.Add(wait)
	if expire, ok := s.ExpiresAt(g.Entry); ok && now < expire {
		due = min(due, expire)
	}
	return due
}

// FinishNotice ends a claim for a delay notice: the sender was notified, or does not want
// notices. If that is to be recorded, the claim goes on until Recorded or Unrecorded.
func (s *Scheduler) FinishNotice(g *Group, record bool, now Time) error {
	if !g.state.inHand() {
		return &StateError{Domain: g.Domain.Name, From: g.state, To: Recording}
	}
	g.delayNotified()
	if !record || g.state == Removed {
		return s.Release(g, now)
	}
	return s.become(g, Recording)
}

// Recorded ends a claim: its results are durable.
func (s *Scheduler) Recorded(g *Group, now Time) error {
	to := g.atRest()
	if g.state == Closing {
		to = Done
	}
	return s.moveFrom(g, Recording, Closing, to, now)
}

// Unrecorded ends a claim whose results could not be written: the attempt is made again
// after the next start. Until then the claim counts.
func (s *Scheduler) Unrecorded(g *Group, now Time) error {
	to := Unrecorded
	if g.state == Closing {
		g.counted, g.unproven = false, false // so that the counts stay
		to = Done
	}
	return s.moveFrom(g, Recording, Closing, to, now)
}

// moveFrom changes the state of g from one of two states to another.
func (s *Scheduler) moveFrom(g *Group, from1, from2, to State, now Time) error {
	if g.state != from1 && g.state != from2 {
		return &StateError{Domain: g.Domain.Name, From: g.state, To: to}
	}
	if err := s.become(g, to); err != nil {
		return err
	}
	s.reschedule(g.Domain, now)
	return nil
}
