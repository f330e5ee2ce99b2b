package dnsclient

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

const (
	// silenceLook is the time between two looks at whether a server answers at all.
	silenceLook = 10 * time.Second
	// answersTimeout bounds each question of such a look.
	answersTimeout = time.Second
)

// inOrder returns the servers as they are asked: a silent server is the last. Each question
// would wait for it before it goes to the next one.
func inOrder(ctx context.Context, servers []*server) []*server {
	if len(servers) < 2 {
		return servers
	}
	var answering, silent []*server
	for _, s := range servers {
		if s.known().silent {
			s.look(ctx)
		}
		if s.known().silent {
			silent = append(silent, s)
		} else {
			answering = append(answering, s)
		}
	}
	return append(answering, silent...)
}

// look looks whether the server says anything, unless that was done a moment ago, or
// somebody does it now. A question without an answer does not show it: the owner of its
// zone can see to that, and must not choose the server that is asked for other names.
func (s *server) look(ctx context.Context) {
	if !s.probing.TryLock() {
		return
	}
	defer s.probing.Unlock()
	if s.passed(s.known().looked, silenceLook) {
		s.setSilent(s.replies(ctx))
	}
}

// setSilent takes note that the server is silent, and why, or that it answers: nil.
func (s *server) setSilent(why error) {
	var was bool
	s.learn(func(k *state) { was, k.silent, k.looked = k.silent, why != nil, s.now() })
	switch {
	case why != nil && !was:
		s.log.Warn("this resolver is silent; the others are asked first until it answers again", "resolver", s.Address.String(), "error", why)
	case was && why == nil:
		s.log.Info("this resolver answers again", "resolver", s.Address.String())
	}
}

// answers returns nil where the server answers, see askKnown.
func (s *server) answers(ctx context.Context) error { return s.askKnown(ctx, answered) }

// replies returns nil where the server says anything at all. One for a site's own names may
// refuse all others.
func (s *server) replies(ctx context.Context) error {
	return s.askKnown(ctx, func(_ *dns.Msg, err error) bool { return err == nil })
}

// askKnown asks for name servers, of the root zone and, as a server may keep that to itself, of
// com: two questions, as one datagram may be lost. It returns nil after the first that is good.
func (s *server) askKnown(ctx context.Context, good func(*dns.Msg, error) bool) (err error) {
	for _, name := range []string{".", "com."} {
		var r *dns.Msg
		once, cancel := context.WithTimeout(ctx, min(answersTimeout, s.timeout))
		r, err = s.plainQuery(once, name, dns.TypeNS)
		cancel()
		if good(r, err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it answers %s", dns.RcodeToString[r.Rcode])
		}
		if ctx.Err() != nil {
			break
		}
	}
	return err
}
