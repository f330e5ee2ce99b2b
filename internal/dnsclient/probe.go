package dnsclient

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

const (
	// ednsMemory is how long it is remembered whether a server knows OPT records.
	ednsMemory = 15 * time.Minute
	// confirmTimeout bounds the second question to a server that seems not to know OPT
	// records, and probeTimeout that for the root zone, which a resolver in use knows.
	confirmTimeout = 2 * time.Second
	probeTimeout   = 3 * time.Second
)

// Validation is whether a server validates, by its answer for the root zone, which is
// signed.
type Validation uint8

const (
	// NotKnown: the server has not been asked, or has not answered.
	NotKnown Validation = iota
	// Validates: its answer had the AD bit.
	Validates
	// ValidatesNothing: its answer had no AD bit.
	ValidatesNothing
)

// goodFor is how long the result of a probe counts.
func (v Validation) goodFor() time.Duration {
	switch v {
	case Validates:
		return time.Hour
	case ValidatesNothing:
		return 5 * time.Minute
	}
	return time.Minute
}

// state is what the answers of a server have shown.
type state struct {
	validation Validation
	probed     time.Time // zero: never
	silent     bool      // it did not answer anything when that was looked at last
	looked     time.Time // when that was; zero: never
	edns       time.Time // when it last answered a question with an OPT record
	noEDNS     time.Time // until when it is asked without
	ednsWarned bool
}

func (s *server) known() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *server) learn(f func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.state)
}

// believed reports whether the AD bit of the server counts: the way to it is safe,
// and it is not known to validate nothing. A server that has not answered yet is
// believed: its AD bit is asked of every answer all the same.
func (s *server) believed() bool {
	return s.trusted && (s.always || s.known().validation != ValidatesNothing)
}

// status is the server as Servers returns it.
func (s *server) status() ServerStatus {
	out := ServerStatus{Address: s.Address.String(), DoT: s.TLS, Believed: s.believed(), Why: s.why, Validation: s.known().validation}
	if s.trusted && out.Validation == ValidatesNothing {
		out.Why = phrase.New("%s, but it does not validate DNSSEC: its answer for the root zone has no AD bit", out.Why)
	}
	return out
}

// refresh probes a server whose AD bit may count, where its last probe is old. All
// callers wait for the first probe, and for a later one only the caller that makes it.
func (s *server) refresh(ctx context.Context) {
	if !s.trusted || !s.outdated(s.known().validation.goodFor()) {
		return
	}
	if s.known().probed.IsZero() {
		s.probing.Lock()
	} else if !s.probing.TryLock() {
		return
	}
	defer s.probing.Unlock()
	if s.outdated(s.known().validation.goodFor()) {
		s.probe(ctx)
	}
}

// outdated reports whether the last probe is as old as age, or was none.
func (s *server) outdated(age time.Duration) bool { return s.passed(s.known().probed, age) }

// passed reports whether age has passed since t. It has where t is zero, or to come.
func (s *server) passed(t time.Time, age time.Duration) bool {
	since := s.now().Sub(t)
	return t.IsZero() || since < 0 || since >= age
}

// stillValidates reports whether the server, which has just failed, answers for the
// root zone: then the fault is the question's, not the server's.
func (s *server) stillValidates(ctx context.Context) bool {
	s.probing.Lock()
	defer s.probing.Unlock()
	if s.outdated(10 * time.Second) {
		s.probe(ctx)
	}
	return s.known().validation == Validates
}

// probe asks for the name servers of the root zone (as Postfix does, see its
// dnssec_probe). The caller holds probing.
func (s *server) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := s.query(ctx, ".", dns.TypeNS)
	v := NotKnown
	switch {
	case err != nil || r.Rcode == dns.RcodeServerFailure:
	case r.AuthenticatedData:
		v = Validates
	default:
		v = ValidatesNothing
	}
	known := s.known()
	was := known.validation
	s.learn(func(k *state) { k.validation, k.probed = v, s.now() })
	switch {
	case v == was, s.now().Before(known.noEDNS): // which has been warned of
	case v == ValidatesNothing:
		s.log.Warn("this resolver does not validate DNSSEC: DANE does not protect mail by its answers; use one that validates (unbound, for one), or switch its validation on",
			"resolver", s.Address.String(), "because", "its answer for the root zone has no AD bit")
	case was == ValidatesNothing:
		s.log.Info("this resolver validates DNSSEC now", "resolver", s.Address.String())
	}
}

// query asks the server, without an OPT record where it cannot take one (RFC 6891,
// 7). Then the AD bit does not count: a server that validates knows OPT records.
func (s *server) query(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	if s.now().Before(s.known().noEDNS) {
		return s.plainQuery(ctx, name, qtype)
	}
	r, err := s.askEDNS(ctx, name, qtype)
	if answered(r, err) {
		s.learn(func(k *state) { k.edns = s.now() })
		return r, err
	}
	if !s.maybeEDNS(r, err) {
		return r, err
	}
	without, werr := s.plainQuery(ctx, name, qtype)
	if !answered(without, werr) {
		return r, err // the OPT record makes no difference
	}
	if s.takesEDNS(ctx) {
		// One answer was late, or lost, or is that of the zone's own server: a server
		// that validates must not be taken for one that does not.
		return s.ask(ctx, newQuery(name, qtype, true))
	}
	warned := true
	s.learn(func(k *state) {
		k.noEDNS, k.edns = s.now().Add(ednsMemory), time.Time{}
		warned, k.ednsWarned = k.ednsWarned, true
	})
	if !warned {
		s.log.Warn("this resolver answers no questions with EDNS (RFC 6891); it is asked without, and DANE does not protect mail by its answers; use another",
			"resolver", s.Address.String())
	}
	return without, nil
}

// askEDNS asks with an OPT record, and leaves time to ask without.
func (s *server) askEDNS(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	if d, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(d)/3)
		defer cancel()
	}
	return s.ask(ctx, newQuery(name, qtype, true))
}

func (s *server) plainQuery(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	r, err := s.ask(ctx, newQuery(name, qtype, false))
	if r != nil {
		r.AuthenticatedData = false
	}
	return r, err
}

// takesEDNS asks a question that every resolver has an answer to.
func (s *server) takesEDNS(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, min(confirmTimeout, s.timeout))
	defer cancel()
	ok := answered(s.ask(ctx, newQuery(".", dns.TypeNS, true)))
	if ok {
		s.learn(func(k *state) { k.edns = s.now() })
	}
	return ok
}

// maybeEDNS reports whether the lack of an answer may come of the OPT record.
func (s *server) maybeEDNS(r *dns.Msg, err error) bool {
	if refusesEDNS(r) {
		return true
	}
	if ne, ok := errors.AsType[net.Error](err); err != nil && (!ok || !ne.Timeout()) {
		return false
	}
	return s.now().Sub(s.known().edns) >= ednsMemory
}

// refusesEDNS reports whether r is the answer of a server that knows no OPT record.
func refusesEDNS(r *dns.Msg) bool {
	return r != nil && (r.Rcode == dns.RcodeFormatError || r.Rcode == dns.RcodeNotImplemented || r.Rcode == dns.RcodeBadVers)
}

// answered reports whether r is an answer about the name.
func answered(r *dns.Msg, err error) bool {
	return err == nil && (r.Rcode == dns.RcodeSuccess || r.Rcode == dns.RcodeNameError)
}

// probeAll probes servers side by side.
func probeAll(ctx context.Context, servers []*server) {
	var wg sync.WaitGroup
	for _, s := range servers {
		if s.trusted {
			wg.Go(func() {
				s.probing.Lock()
				defer s.probing.Unlock()
				s.probe(ctx)
			})
		}
	}
	wg.Wait()
}
