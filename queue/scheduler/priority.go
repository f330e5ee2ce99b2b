package scheduler

// Priority is the class of a group's mail. It decides which group of a domain is
// claimed first, and which back-off of the domain holds it.
type Priority struct {
	// Generated reports whether the relay itself wrote the mail; user mail goes first.
	Generated bool
	// PolicyFree reports whether no published policy binds it. A back-off for a policy does
	// not hold it; it goes before mail that policies bind, so as not to wait behind it.
	PolicyFree bool
	// Delayed reports whether the sender is to be warned of the delay. It goes first in its
	// class.
	Delayed bool
	// Expired reports whether it is to be given up now. It goes before all other mail, and
	// no back-off holds it.
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

// exempt reports whether policies do not matter for mail of this priority, so that its
// results say nothing about a back-off for a policy.
func (p Priority) exempt() bool { return p.PolicyFree && !p.Expired }
