package notify

import (
	"crypto/sha256"
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
	// suppressFor is the shortest time between two delay notices to a sender about mail
	// to one domain that waits for a protected connection.
	suppressFor = 24 * time.Hour
	// maxPairs bounds the pairs that are remembered.
	maxPairs = 10_000
)

// past reports whether a time d after at is over. A time that is as far in the future was
// noted before the last start, while the clock was ahead: it counts no more.
func past(at, now time.Time, d time.Duration) bool { return now.Sub(at).Abs() >= d }

// pair is a sender and a recipient domain whose mail is held by a TLS policy.
type pair struct{ sender, domain string }

// longSender is the size of an address from which on its hash stands for it: the store
// takes no key that is longer than 1,016 octets.
const longSender = 512

func pairOf(sender, domain string) pair {
	if len(sender) >= longSender {
		sender = fmt.Sprintf("%x", sha256.Sum256([]byte(sender)))
	}
	return pair{sender, domain}
}

// key is the key under which the store has the time of the last notice.
func (p pair) key() []byte { return slices.Concat(store.PrefixTold, []byte(p.sender+"\x00"+p.domain)) }

// suppressor keeps delay notices about held mail from coming more than once a day to a
// sender for each domain.
type suppressor struct {
	mu sync.Mutex
	at map[pair]time.Time // the last notice
}

// Load reads the times of notices before the last stop from the store. Times of later
// notices are written to it in the commits that queue the notices.
func (r *Reporter) Load(s store.Store) error {
	r.suppressor.mu.Lock()
	defer r.suppressor.mu.Unlock()
	r.suppressor.at = make(map[pair]time.Time)
	var old store.Batch
	err := s.Scan(store.PrefixTold, nil, func(key, value []byte) error {
		sender, domain, ok := strings.Cut(string(key[len(store.PrefixTold):]), "\x00")
		if !ok || len(value) != 8 {
			return fmt.Errorf("%q is no record of a notice", key)
		}
		if at := time.Unix(int64(binary.BigEndian.Uint64(value)), 0); !past(at, r.now(), suppressFor) {
			r.suppressor.at[pair{sender, domain}] = at
		} else {
			old.Delete(slices.Clone(key))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the times of delay notices: %w", err)
	}
	s.Submit(&old, nil) // else they are deleted at the next start
	return nil
}

// filter removes those recipients from a delay notice that wait for a protected
// connection to a domain about which the sender had a notice already, for this message
// or another. also adds the new times to the commit of the notice.
func (s *suppressor) filter(sender string, list []entry, now time.Time) (rest []entry, also func(*store.Batch)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = make(map[pair]time.Time)
	}
	var old, fresh []pair
	if len(s.at) >= maxPairs {
		maps.DeleteFunc(s.at, func(p pair, at time.Time) bool {
			over := past(at, now, suppressFor)
			if over {
				old = append(old, p)
			}
			return over
		})
	}
	before := func(e entry) bool {
		at, ok := s.at[pairOf(sender, e.recipient.Domain)]
		return ok && !past(at, now, suppressFor)
	}
	rest = slices.DeleteFunc(list, func(e entry) bool { return e.protection && before(e) })
	for _, e := range rest {
		if p := pairOf(sender, e.recipient.Domain); e.protection && len(s.at) < maxPairs {
			s.at[p] = now
			fresh = append(fresh, p)
		}
	}
	return rest, func(b *store.Batch) {
		for _, p := range old {
			b.Delete(p.key())
		}
		for _, p := range fresh {
			b.Set(p.key(), binary.BigEndian.AppendUint64(nil, uint64(now.Unix())))
		}
	}
}
