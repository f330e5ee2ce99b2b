package notify

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// tellAgain is how often a sender is told that mail to a domain waits for a
	// protected connection.
	tellAgain = 24 * time.Hour
	// maxTold bounds how many of those are remembered.
	maxTold = 10_000
)

// held is whose mail to where waits for protection.
type held struct{ sender, domain string }

// key is where the store has when its sender was told.
func (h held) key() []byte { return slices.Concat(store.PrefixTold, []byte(h.sender+"\x00"+h.domain)) }

// told is who was told of what, and when.
type told struct {
	mu sync.Mutex
	at map[held]time.Time
}

// Remember brings in who was told before a restart. What is told from now on is
// written to the store in the commit that queues the notice.
func (r *Reporter) Remember(s store.Store) error {
	r.told.mu.Lock()
	defer r.told.mu.Unlock()
	r.told.at = make(map[held]time.Time)
	var old store.Batch
	err := s.Scan(store.PrefixTold, nil, func(key, value []byte) error {
		sender, domain, ok := strings.Cut(string(key[len(store.PrefixTold):]), "\x00")
		if !ok || len(value) != 8 {
			return fmt.Errorf("%q is no record of a notice", key)
		}
		if at := time.Unix(int64(binary.BigEndian.Uint64(value)), 0); r.now().Sub(at) < tellAgain {
			r.told.at[held{sender, domain}] = at
		} else {
			old.Delete(slices.Clone(key))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("who was told of mail that waits: %w", err)
	}
	s.Submit(&old, nil) // what is not deleted now is at the next start
	return nil
}

// untold leaves those out of a delay notice that wait for a protected connection
// to a domain about which the sender has been told already, on account of this
// message or another. also belongs into the commit of the notice.
func (t *told) untold(sender string, list []entry, now time.Time) (rest []entry, also func(*store.Batch)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at == nil {
		t.at = make(map[held]time.Time)
	}
	var old, fresh []held
	if len(t.at) >= maxTold {
		maps.DeleteFunc(t.at, func(h held, at time.Time) bool {
			past := now.Sub(at) >= tellAgain
			if past {
				old = append(old, h)
			}
			return past
		})
	}
	before := func(e entry) bool {
		at, ok := t.at[held{sender, e.recipient.Domain}]
		return ok && now.Sub(at) < tellAgain
	}
	rest = slices.DeleteFunc(list, func(e entry) bool { return e.protection && before(e) })
	for _, e := range rest {
		if h := (held{sender, e.recipient.Domain}); e.protection && len(t.at) < maxTold {
			t.at[h] = now
			fresh = append(fresh, h)
		}
	}
	return rest, func(b *store.Batch) {
		for _, h := range old {
			b.Delete(h.key())
		}
		for _, h := range fresh {
			b.Set(h.key(), binary.BigEndian.AppendUint64(nil, uint64(now.Unix())))
		}
	}
}
