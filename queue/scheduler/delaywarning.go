package scheduler

// A message is delayed from the age of Schedule.DelayWarning on. The next attempt warns
// its sender. If there is none, because the domain is in back-off, its groups are claimed
// only to send a delay notice. Until its sender is notified, the priority of a delayed
// group says so: finding the groups to be claimed needs no search.

// maxMarked is the number of messages that one call looks at.
const maxMarked = 20_000

// claimsNotice reports whether a group with a priority is claimed to send a delay notice,
// not for an attempt. After the back-off no notice is sent: the probe goes first, and then
// perhaps all of the mail.
func (d *Domain) claimsNotice(p Priority, now Time) bool {
	return p.Delayed && d.blocks(p) && now < d.backoff.until
}

// watchDelay makes markDelayed look at e, and again at the messages after it.
func (l *entryList) watchDelay(e *Entry) {
	if l.undelayed == nil || e.Seq < l.undelayed.Seq {
		l.undelayed = e
	}
}

// markDelayed marks the groups that have become delayed since the last call. It returns
// when the next one will be, Never if none is known. Messages become delayed in the order
// of their numbers; an imported one waits for those before it.
func (s *Scheduler) markDelayed(now Time) (wakeAt Time) {
	if s.schedule.DelayWarning == 0 {
		return Never
	}
	for range maxMarked {
		e := s.messages.undelayed
		if e == nil {
			return Never
		}
		if e.Accepted {
			if at := e.ReceivedAt.Add(s.schedule.DelayWarning); at > now {
				return at
			}
			for i := range e.Groups {
				if g := &e.Groups[i]; !g.state.Ended() && !g.DelayNotified {
					s.setDelayed(g, true, now)
				}
			}
		}
		s.messages.undelayed = e.next
	}
	return now
}

// forgetDelays makes markDelayed start from the first message again.
func (s *Scheduler) forgetDelays(now Time) {
	for e := s.messages.first; e != nil; e = e.next {
		for i := range e.Groups {
			s.setDelayed(&e.Groups[i], false, now)
		}
	}
	s.messages.undelayed = s.messages.first
}

// setDelayed changes Priority.Delayed of g, unless its class knows no delay warning.
func (s *Scheduler) setDelayed(g *Group, delayed bool, now Time) {
	p := g.Priority
	if p.Delayed == delayed || p.Generated || p.Expired {
		return
	}
	p.Delayed = delayed
	s.setPriority(g, p)
	s.reschedule(g.Domain, now)
}

// delayNotified notes that the sender of g knows of the delay. g must not be Waiting.
func (g *Group) delayNotified() {
	g.DelayNotified = true
	g.Priority.Delayed = false
}
