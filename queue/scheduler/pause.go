package scheduler

// Forever is the end of a pause that lasts until it is ended.
const Forever Time = 1<<63 - 1

// Pause lets nothing be claimed until a time; one in the past ends the pause.
func (s *Scheduler) Pause(until Time) { s.pausedUntil = until }

// Paused reports whether nothing is claimed.
func (s *Scheduler) Paused(now Time) bool { return s.pausedUntil > now }

// PauseDomain lets nothing of a domain be claimed until a time; one in the past ends the
// pause.
func (s *Scheduler) PauseDomain(name string, until, now Time) {
	if s.pausedDomains == nil {
		s.pausedDomains = make(map[string]Time)
	}
	if s.pausedDomains[name] = until; until <= now {
		delete(s.pausedDomains, name)
	}
	if d := s.domains[name]; d != nil {
		d.pausedUntil = until
		s.reschedule(d, now)
	}
}

// PausedUntil is when the pause of the domain ends; it may be in the past.
func (d *Domain) PausedUntil() Time { return d.pausedUntil }
