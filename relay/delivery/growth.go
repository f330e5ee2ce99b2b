package delivery

import "time"

const (
	// DefaultPerHost is how many sessions a host gets where the operator sets no bound,
	// MostPerHost to how many they grow with a host that is far away.
	DefaultPerHost = 10
	MostPerHost    = 50
	// A host is far away where a message takes farAway at least. With a host nearby, more
	// sessions bring no more mail.
	farAway = 20 * time.Millisecond
)

// sessionLimit bounds the sessions to one host.
type sessionLimit struct {
	// base is the number that each host gets while it takes mail.
	base int
	// most is the number to which sessions grow, see growth. It equals base where the
	// operator has set the bound.
	most int
}

// limitOf returns the limit for the operator's bound; 0: there is none.
func limitOf(bound int) sessionLimit {
	if bound > 0 {
		return sessionLimit{base: bound, most: bound}
	}
	return sessionLimit{base: DefaultPerHost, most: MostPerHost}
}

// growth decides how many sessions a host gets beyond the base of its limit. In a session
// one message follows the other, so the rate to a host far away is the number of its
// sessions in a round trip or two. As long as a message takes no longer than it took with
// fewer sessions, each new session has brought its share, and the host gets more. Where it
// takes longer, the host or the way there is full, and sessions go again.
//
// The time of a message is averaged over a round: as many messages as there are sessions.
type growth struct {
	extra int           // sessions beyond the base
	best  time.Duration // the least average of a round since extra was 0
	sum   time.Duration // of this round
	count int
}

// took takes note that the host took a message within d, while it had so many sessions
// open and so many attempts waited for one.
func (g *growth) took(d time.Duration, sessions, waiting int) {
	g.sum += d
	if g.count++; g.count < max(sessions, 1) {
		return
	}
	mean := g.sum / time.Duration(g.count)
	g.sum, g.count = 0, 0
	if g.best == 0 || mean < g.best || g.extra == 0 {
		g.best = mean
	}
	step := max(sessions/8, 1)
	switch {
	case mean > g.best*3/2:
		g.extra = max(g.extra-2*step, 0)
	case g.best >= farAway && mean <= g.best*5/4 && waiting > 0:
		g.extra = min(g.extra+step, MostPerHost)
	}
}

// overloaded takes note that the host says, or shows, that it has too much to do.
func (g *growth) overloaded() { *g = growth{} }

// allowed is the number of sessions that the host may have.
func (g *growth) allowed(l sessionLimit) int { return min(l.base+g.extra, max(l.most, l.base)) }
