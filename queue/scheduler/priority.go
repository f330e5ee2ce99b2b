package scheduler

// Priority is the class of a group's mail. It decides which group of a domain is
// claimed first, and which back-off of the domain holds it.
type Priority struct {
	// Generated: the relay itself wrote it; it goes after mail of users.
	Generated bool
	// PolicyFree: no published policy binds it. A back-off for a policy does not
	// hold it, and so it goes before mail that is bound.
	PolicyFree bool
	// Delayed: its sender is to be warned of the delay. It goes first in its class.
	Delayed bool
	// Expired: it is to be given up now. It goes first, and no back-off holds it.
	Expired bool
}

// ranks is the number of different ranks.
const ranks = 7

// rank orders priorities: the lowest is claimed first.
func (p Priority) rank() int {
	switch {
	case p.Expired:
		return 0
	case p.Generated && p.PolicyFree:
		return 5
	case p.Generated:
		return 6
	case p.PolicyFree && p.Delayed:
		return 1
	case p.PolicyFree:
		return 2
	case p.Delayed:
		return 3
	}
	return 4
}

// exempt reports whether a back-off for a policy says nothing about mail of
// this priority.
func (p Priority) exempt() bool { return p.PolicyFree && !p.Expired }
