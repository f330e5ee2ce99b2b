package history

import (
	"sync"
	"time"
)

// refusalsAMinute is how many refusals of a minute have a record of their own: whoever is
// refused can ask as often as they like, and must not fill the history.
const refusalsAMinute = 300

// refusals bounds the records of refusals.
type refusals struct {
	mu     sync.Mutex
	minute time.Time
	n      int
	// left is how many of the minute have no record.
	left uint64
}

// take counts a refusal. It reports whether that gets a record, and how many of the minute
// before got none, once.
func (r *refusals) take(now time.Time) (recorded bool, left uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if minute := now.Truncate(time.Minute); !minute.Equal(r.minute) {
		left = r.left
		r.minute, r.n, r.left = minute, 0, 0
	}
	if r.n >= refusalsAMinute {
		r.left++
		return false, left
	}
	r.n++
	return true, left
}

// AddRefused adds a record of a reply that refuses a client's command. There are so many a
// minute at most; the number of the others comes with the next minute.
func (l *Log) AddRefused(client, from, command, status, reply string) {
	if l.settings.Load().Keep == 0 {
		return
	}
	recorded, left := l.refusals.take(l.o.Now())
	if left > 0 {
		l.Add(Record{Kind: Refused, What: "further refusals", Lines: left})
	}
	if recorded {
		l.Add(Record{Kind: Refused, Client: client, From: from, What: command, Status: status, Reply: reply})
	}
}
