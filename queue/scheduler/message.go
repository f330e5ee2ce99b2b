package scheduler

import "errors"

// Enter adds a message that is being received: it has a place among the messages, and no
// groups. Messages are entered in the order of their numbers.
func (s *Scheduler) Enter(e *Entry) { s.messages.add(e) }

// First returns the message with the lowest number, nil if there is none. Entry.Next leads
// to the others.
func (s *Scheduler) First() *Entry { return s.messages.first }

// Mail is what the scheduler has to know of a message.
type Mail struct {
	ReceivedAt Time
	Priority   Priority
	// Report reports whether it is a TLS report, which is given up after a day.
	Report bool
	// NoSender reports whether there is nobody to be warned of a delay.
	NoSender bool
}

// Accept gives an entered message n recipient groups, which are due at once, and Pending
// until Start. group returns the domain of a group and the number of its recipients.
func (s *Scheduler) Accept(e *Entry, m Mail, n int, group func(i int) (domain string, recipients int)) {
	e.Accepted, e.ReceivedAt, e.report = true, m.ReceivedAt, m.Report
	e.Left = int32(n)
	if e.Groups = e.single[:]; n > 1 {
		e.Groups = make([]Group, n)
	}
	for i := range e.Groups {
		domain, recipients := group(i)
		e.Groups[i] = Group{Entry: e, Due: e.ReceivedAt, Recipients: int32(recipients), Number: uint16(i),
			Priority: m.Priority, DelayNotified: m.NoSender}
		s.domain(domain).join(&e.Groups[i])
		s.counts.Recipients += recipients
		s.reasons.groups[0]++
	}
	s.counts.Messages++
	s.messages.watchDelay(e)
}

// Saved is what is known of a group from earlier attempts.
type Saved struct {
	Attempts      int
	Left          int // recipients that have no end
	Due           Time
	DelayNotified bool
	Reason        Reason // why the last attempt did not deliver; zero: not known
}

// Restore sets the state of a Pending group after earlier attempts.
func (s *Scheduler) Restore(g *Group, saved Saved) error {
	if g.state != Pending {
		return &StateError{Domain: g.Domain.Name, From: g.state, To: Pending}
	}
	g.Attempts = uint16(saved.Attempts)
	if saved.Reason != (Reason{}) {
		g.Domain.Last = saved.Reason
		s.reasons.change(g, saved.Reason.Code)
	}
	s.counts.Recipients -= int(g.Recipients) - saved.Left
	g.Recipients = int32(saved.Left)
	if saved.Left == 0 {
		return s.become(g, Done)
	}
	g.Due = saved.Due
	if saved.DelayNotified {
		g.delayNotified()
	}
	return nil
}

// Start puts the groups of an accepted message into the schedule.
func (s *Scheduler) Start(e *Entry, now Time) error {
	return s.each(e, now, func(g *Group) error {
		if g.state != Pending {
			return nil
		}
		return s.become(g, g.atRest())
	})
}

// each calls fn for every group of e and reschedules their domains.
func (s *Scheduler) each(e *Entry, now Time, fn func(*Group) error) error {
	var errs []error
	for i := range e.Groups {
		g := &e.Groups[i]
		if err := fn(g); err != nil {
			errs = append(errs, err)
		}
		s.reschedule(g.Domain, now)
	}
	return errors.Join(errs...)
}

// Hold keeps a message from being tried. A group that is claimed is held after the claim.
func (s *Scheduler) Hold(e *Entry, now Time) error {
	if e.Held || e.Gone {
		return nil
	}
	e.Held = true
	s.counts.Held++
	return s.each(e, now, func(g *Group) error {
		if g.state != Waiting {
			return nil
		}
		return s.become(g, Held)
	})
}

// Unhold releases a held message, which is due now.
func (s *Scheduler) Unhold(e *Entry, now Time) error {
	if !e.Held || e.Gone {
		return nil
	}
	return errors.Join(s.EndHold(e, now), s.RetryNow(e, now))
}

// EndHold releases a held message with the due times that it had.
func (s *Scheduler) EndHold(e *Entry, now Time) error {
	if !e.Held || e.Gone {
		return nil
	}
	e.Held = false
	s.counts.Held--
	return s.each(e, now, func(g *Group) error {
		if g.state != Held {
			return nil
		}
		return s.become(g, Waiting)
	})
}

// RetryNow makes all groups of e due that have recipients left, and ends the back-off of
// their domains; one group goes first as a probe.
func (s *Scheduler) RetryNow(e *Entry, now Time) error {
	return s.each(e, now, func(g *Group) error {
		if !g.state.Ended() {
			s.setDue(g, now)
			g.Domain.endBackoffBy(now)
		}
		return nil
	})
}

// SetDue makes g due at a time.
func (s *Scheduler) SetDue(g *Group, at, now Time) {
	s.setDue(g, at)
	s.reschedule(g.Domain, now)
}

// Cancel keeps g from being claimed, until End. If a claim is under way, the group is
// Canceled after it.
func (s *Scheduler) Cancel(g *Group, now Time) error {
	g.canceled = true
	if g.state != Waiting && g.state != Held {
		return nil
	}
	return s.moveFrom(g, Waiting, Held, Canceled, now)
}

// Uncancel undoes Cancel.
func (s *Scheduler) Uncancel(g *Group, now Time) error {
	g.canceled = false
	if g.state != Canceled {
		return nil
	}
	return s.moveFrom(g, Canceled, Canceled, g.atRest(), now)
}

// End ends a canceled group.
func (s *Scheduler) End(g *Group, now Time) error {
	return s.moveFrom(g, Canceled, Canceled, Done, now)
}

// Remove removes a message, whatever its state. The results of a claim that is under way
// do not matter any more.
func (s *Scheduler) Remove(e *Entry, now Time) error {
	if e.Gone {
		return nil
	}
	err := s.each(e, now, func(g *Group) error {
		switch g.state {
		case Claimed:
			return s.become(g, Removed)
		case Recording:
			return s.become(g, Closing)
		case Removed, Closing, Done:
			return nil
		}
		return s.become(g, Done)
	})
	e.Gone = true
	s.messages.remove(e)
	if e.Accepted {
		s.counts.Messages--
	}
	if e.Held {
		s.counts.Held--
	}
	return err
}
