package scheduler

// reasonCounts counts the groups that have recipients left by the code of the reason of
// their last attempt. The codes are of a small closed set, so that a group has the index of
// its code only.
type reasonCounts struct {
	codes  []string // "" at index 0: of groups that were not tried
	groups []int    // by index
}

// maxReasons is how many codes are told apart, so that an index fits into an octet. The
// groups of others are counted as not tried.
const maxReasons = 256

func newReasonCounts() reasonCounts { return reasonCounts{codes: []string{""}, groups: []int{0}} }

func (r *reasonCounts) index(code string) uint8 {
	for i, c := range r.codes {
		if c == code {
			return uint8(i)
		}
	}
	if len(r.codes) == maxReasons {
		return 0
	}
	r.codes, r.groups = append(r.codes, code), append(r.groups, 0)
	return uint8(len(r.codes) - 1)
}

// change counts a group under another code.
func (r *reasonCounts) change(g *Group, code string) {
	r.groups[g.reason]--
	g.reason = r.index(code)
	r.groups[g.reason]++
}

// Reasons returns the number of groups that have recipients left by the code of the reason
// of their last attempt, "" for those that were not tried. It looks at no group.
func (s *Scheduler) Reasons() map[string]int {
	out := make(map[string]int, len(s.reasons.codes))
	for i, code := range s.reasons.codes {
		out[code] = s.reasons.groups[i]
	}
	return out
}
