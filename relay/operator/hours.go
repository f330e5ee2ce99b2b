package operator

import (
	"context"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/relay/history"
)

// Hour counts what happened to mail in an hour, by the history.
type Hour struct {
	At time.Time `json:"at"` // when the hour began
	// Accepted counts messages; the others count recipients.
	Accepted  int `json:"accepted"`
	Delivered int `json:"delivered"`
	Deferred  int `json:"deferred"`
	Bounced   int `json:"bounced"`
	// ByProof counts the delivered ones by how the host was authenticated.
	ByProof map[history.Proof]int `json:"by_proof"`
}

const (
	// keptHours is how many hours are remembered.
	keptHours = 48
	// settled is how long after its end an hour does not change any more.
	settled = time.Minute
	// rests is how many times as long as the present hour took to read, it is not read
	// again: a page that many look at costs little, also on a busy relay.
	rests = 20
)

// hours remembers hours that are over, so that the history is read once for each.
type hours struct {
	mu   sync.Mutex // held while the history is read: one reader is enough
	over map[time.Time]Hour
	now  Hour      // the present one
	next time.Time // when it is read again
}

// Hours returns the last n hours, the present one last. Where the history cannot be read
// in time, the oldest are missing, and the error says so.
func (o *Operator) Hours(ctx context.Context, n int) ([]Hour, error) {
	if o.o.History == nil {
		return nil, nil
	}
	h := &o.hours
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over == nil {
		h.over = make(map[time.Time]Hour)
	}
	now := time.Now().UTC()
	present := now.Truncate(time.Hour)
	for at := range h.over {
		if present.Sub(at) > keptHours*time.Hour {
			delete(h.over, at)
		}
	}
	list := make([]Hour, n)
	for i := n - 1; i >= 0; i-- {
		at := present.Add(time.Duration(i-n+1) * time.Hour)
		one, err := h.hour(ctx, o.o.History, at, now)
		if err != nil {
			return list[i+1:], err
		}
		list[i] = one
	}
	return list, nil
}

// hour returns one hour, which is counted if it has to be.
func (h *hours) hour(ctx context.Context, log *history.Log, at, now time.Time) (Hour, error) {
	if one, ok := h.over[at]; ok {
		return one, nil
	}
	if h.now.At.Equal(at) && now.Before(h.next) {
		return h.now, nil
	}
	one := Hour{At: at, ByProof: make(map[history.Proof]int)}
	err := log.Search(ctx, history.Query{Since: at, Until: at.Add(time.Hour)}, func(r history.Record) bool {
		one.count(&r)
		return true
	})
	switch {
	case err != nil:
		return one, err
	case now.Sub(at) > time.Hour+settled:
		h.over[at] = one
	case now.Sub(at) < time.Hour:
		h.now, h.next = one, time.Now().Add(rests*time.Since(now))
	}
	return one, nil
}

func (h *Hour) count(r *history.Record) {
	if r.Kind == history.Accepted {
		h.Accepted++
	}
	switch r.Verdict {
	case "delivered":
		proof := history.ProofNone
		if r.TLS != nil {
			proof = r.TLS.Proof
		}
		h.Delivered += len(r.To)
		h.ByProof[proof] += len(r.To)
	case "deferred":
		h.Deferred += len(r.To)
	case "bounced":
		h.Bounced += len(r.To)
	}
}
