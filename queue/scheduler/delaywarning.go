package scheduler

// A message is delayed from the age of Schedule.DelayWarning on. The next attempt
// warns its sender. Where there is none, because the domain is in back-off, its
// groups are claimed for a notice and for nothing else. From then on until its
// sender knows, the priority of a group says that it is delayed: which ones are to
// be warned of costs no search.

// maxMarked bounds the messages that are looked at in one call.
const maxMarked = 20_000

// claimsNotice reports whether a group of a priority is claimed for a delay notice
// and not for an attempt. Once the back-off is over nobody is warned: the probe
// comes first, and all of the mail may go after it.
func (d *Domain) claimsNotice(p Priority, now Time) bool {
	return p.Delayed && d.blocks(p) && now < d.backoff.until
}

// watchDelay lets markDelayed look at e, and again at what came after it.
func (l *entryList) watchDelay(e *Entry) {
	if l.undelayed == nil || e.Seq < l.undelayed.Seq {
		l.undelayed = e
	}
}

// markDelayed finds what is delayed since the last call. It returns when there will
// be more, Never for nothing known of. Messages become delayed in the order in which
// they came; an imported one waits for those before it.
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

// forgetDelays makes markDelayed begin anew.
func (s *Scheduler) forgetDelays(now Time) {
	for e := s.messages.first; e != nil; e = e.next {
		for i := range e.Groups {
			s.setDelayed(&e.Groups[i], false, now)
		}
	}
	s.messages.undelayed = s.messages.first
}

func (s *Scheduler) setDelayed(g *Group, delayed bool, now Time) {
	p := g.Priority
	if p.Delayed == delayed || p.Generated || p.Expired {
		return
	}
	p.Delayed = delayed
	s.setPriority(g, p)
	s.reschedule(g.Domain, now)
}

// delayNotified notes that the sender of g, which does not wait, knows of the delay.
func (g *Group) delayNotified() {
	g.DelayNotified = true
	g.Priority.Delayed = false
}
