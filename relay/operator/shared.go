package operator

import (
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// sharedFor is how long it is remembered which reasons are this relay's matter: to find
// out, the whole queue is looked through.
const sharedFor = 5 * time.Second

// shared remembers the codes of the reasons that are this relay's matter, because most
// domains share them or the resolver does not answer.
type shared struct {
	mu    sync.Mutex
	at    time.Time
	codes []string
}

// of finds the codes in a summary of the queue. silent reports whether the resolver does not
// answer; nil: it does.
func (s *shared) of(list []queue.DomainSummary, silent func() bool) []string {
	domains := make(map[string]int)
	for _, d := range list {
		if d.Last != (queue.Reason{}) {
			domains[d.Last.Code]++
		}
	}
	var codes []string
	if code := failure.Shared(domains); code != "" {
		codes = append(codes, code)
	}
	if silent != nil && silent() {
		codes = append(codes, failure.DNS.Row().Code, failure.STSFetch.Row().Code)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.codes = time.Now(), codes
	return codes
}

// sharedNow returns the codes, not older than sharedFor.
func (o *Operator) sharedNow() []string { return o.sharedWithin(sharedFor) }

// sharedWithin returns the codes as of some time ago at most.
func (o *Operator) sharedWithin(age time.Duration) []string {
	s := &o.shared
	s.mu.Lock()
	codes, fresh := s.codes, time.Since(s.at) < age
	s.mu.Unlock()
	if fresh {
		return codes
	}
	return s.of(o.o.Queue.Summary(), o.o.ResolverSilent)
}
