package sts

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"
)

const (
	// The back-off of failed fetches of one id (RFC 8461, 3.3: five minutes).
	minBackoff = 5 * time.Minute
	maxBackoff = time.Hour
	// refetchInterval is the shortest time between fetches for refused deliveries.
	refetchInterval = 5 * time.Minute
	// keptFailure is how many octets are kept of the text that came instead of a policy,
	// and of the error.
	keptFailure = 1 << 10
)

// Entry is the state of a domain in the cache. A time is zero where nothing happened.
type Entry struct {
	Domain string
	// ID is the id of the record when Policy was fetched, "" if there was none.
	ID string
	// Policy is the last policy that was fetched, nil where there was none.
	Policy    *Policy
	FetchedAt time.Time
	// ExpiresAt may lie in the past: an expired policy is shown for a while. It is
	// not applied.
	ExpiresAt   time.Time
	LastUsed    time.Time
	NextRefresh time.Time
	// RefetchedAt is the last fetch that a refused delivery asked for,
	// ChangedAt the last time that a policy changed and its id did not.
	RefetchedAt time.Time
	ChangedAt   time.Time
	// LastError is the error of the last fetch, "" if that did not fail.
	LastError   string
	LastErrorAt time.Time
}

// record is what the store keeps under the prefix and a domain's name, as CBOR.
// Times are Unix seconds. What a stranger sends is a byte string: it need not
// be UTF-8, as CBOR's text must.
type record struct {
	ID          string          `cbor:"1,keyasint,omitempty"`
	Text        cbor.ByteString `cbor:"2,keyasint,omitempty"` // the policy as it is applied, see Policy.Text; "": there is none
	FetchedAt   int64           `cbor:"3,keyasint,omitempty"`
	UsedAt      int64           `cbor:"4,keyasint,omitempty"`
	RefreshAt   int64           `cbor:"5,keyasint,omitempty"`
	RefetchedAt int64           `cbor:"6,keyasint,omitempty"`
	ChangedAt   int64           `cbor:"7,keyasint,omitempty"`
	Failure     *failure        `cbor:"8,keyasint,omitempty"`
}

// failure is the last fetch, where it failed.
type failure struct {
	ID     string          `cbor:"1,keyasint,omitempty"` // what the record announced
	At     int64           `cbor:"2,keyasint"`
	Count  int             `cbor:"3,keyasint"` // in a row, for ID
	Type   FailureType     `cbor:"4,keyasint"`
	Why    cbor.ByteString `cbor:"5,keyasint"`
	Text   cbor.ByteString `cbor:"6,keyasint,omitempty"` // what came instead of a policy
	NoHost bool            `cbor:"7,keyasint,omitempty"` // the policy host does not exist
}

// card is the part of an entry that is in memory for every domain, about 200 octets with
// the name: enough to find policies that are due and domains that may be removed. Only
// the time of use changes. Methods that say so may be called on nil.
type card struct {
	mode      Mode // "": there is no policy
	maxAge    time.Duration
	fetchedAt int64
	refreshAt int64
	failedAt  int64 // 0: the last fetch did not fail
	charge    int   // octets in the store; 0: it is not there
	pinned    bool  // the store has no entry of the domain, or an older one
	used      atomic.Int64
}

// entry is a record in memory. It never changes: a change makes a new one. Methods that
// say so may be called on nil.
type entry struct {
	record         // without Text
	policy *Policy // nil where there is none
	card   *card
	size   int // octets of memory, about
}

func newEntry(r record, p *Policy) *entry {
	r.Text = ""
	c := &card{refreshAt: r.RefreshAt, fetchedAt: r.FetchedAt}
	if p != nil {
		c.mode, c.maxAge = p.Mode, p.MaxAge
	}
	if r.Failure != nil {
		c.failedAt = r.Failure.At
	}
	c.used.Store(r.UsedAt)
	return &entry{record: r, policy: p, card: c}
}

func (e *entry) encode() ([]byte, error) {
	r := e.record
	r.UsedAt = e.card.used.Load()
	if e.policy != nil {
		r.Text = cbor.ByteString(e.policy.Text())
	}
	return cbor.Marshal(r)
}

// decode reads an entry from the store. The policy is read from its text again:
// what is no policy, for whatever reason, is not applied.
func decode(value []byte) (*entry, error) {
	var r record
	if err := cbor.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	var p *Policy
	if r.Text != "" {
		whole, _, err := parsePolicy(string(r.Text))
		if err != nil {
			return nil, err
		}
		p = whole.Applied()
	}
	e := newEntry(r, p)
	e.size = sizeOf("", value)
	return e, nil
}

// sizeOf estimates the octets that an entry takes in memory.
func sizeOf(domain string, value []byte) int { return 300 + len(domain) + 2*len(value) }

// copyRecord is the record from which a changed entry is made; e may be nil.
func (e *entry) copyRecord(now time.Time) record {
	if e == nil {
		return record{UsedAt: now.Unix()}
	}
	r := e.record
	r.UsedAt = e.card.used.Load()
	r.FetchedAt = min(r.FetchedAt, now.Unix()) // the clock was set back
	return r
}

// expires is the time at which the policy ends. A clock that was set back does not make it
// last longer than its max_age from now.
func (c *card) expires(now time.Time) time.Time {
	fetched := min(c.fetchedAt, now.Unix())
	return time.Unix(fetched, 0).Add(c.maxAge)
}

// valid reports whether there is a policy that is in force; c may be nil.
func (c *card) valid(now time.Time) bool {
	return c != nil && c.mode != "" && now.Before(c.expires(now))
}

// valid reports whether e has a policy that is in force; e may be nil.
func (e *entry) valid(now time.Time) bool { return e != nil && e.card.valid(now) }

// due reports whether a policy is to be refreshed. A refresh planned later than any
// can be was planned before the clock was set back.
func (c *card) due(now time.Time) bool {
	at := unix(c.refreshAt)
	return c.valid(now) && now.Sub(unix(c.used.Load())) < usedWithin &&
		(!now.Before(at) || at.Sub(now) > latestRefresh)
}

// over reports whether the entry is of no more use.
func (c *card) over(now time.Time) bool {
	switch {
	case c.mode != "":
		return now.Sub(c.expires(now)) > keptExpired
	case c.failedAt != 0:
		return now.Sub(unix(c.failedAt)) > keptFailed
	}
	return true
}

// wait is the time until the next fetch.
func (f *failure) wait() time.Duration { return min(minBackoff<<min(f.Count-1, 10), maxBackoff) }

// backingOff reports whether a fetch for id failed so short a time ago that it is not
// tried again yet. With the id "", every failed fetch counts. e may be nil.
func (e *entry) backingOff(id string, now time.Time) bool {
	return e != nil && e.Failure != nil && (e.Failure.ID == id || id == "") && within(e.Failure.At, e.Failure.wait(), now)
}

// recentlyRefetched reports whether the policy was fetched for a refused delivery a
// short time ago; e may be nil.
func (e *entry) recentlyRefetched(now time.Time) bool {
	return e != nil && within(e.RefetchedAt, refetchInterval, now)
}

// within reports whether now is less than d after at. It is false for a time in the
// future: the clock was set back since.
func within(at int64, d time.Duration, now time.Time) bool {
	since := now.Sub(time.Unix(at, 0))
	return since >= 0 && since < d
}

// lastFailure is the last failed fetch as an error, nil where none failed.
func (e *entry) lastFailure(domain string) *FetchError {
	if e.Failure == nil {
		return nil
	}
	f := e.Failure
	err := errors.New(string(f.Why))
	if f.NoHost {
		err = ErrNoHost
	}
	return &FetchError{Type: f.Type, Domain: domain, Text: string(f.Text), Err: err}
}

func (e *entry) export(domain string, now time.Time) Entry {
	out := Entry{
		Domain: domain, ID: e.ID, Policy: e.policy, LastUsed: unix(e.card.used.Load()), NextRefresh: unix(e.RefreshAt),
		RefetchedAt: unix(e.RefetchedAt), ChangedAt: unix(e.ChangedAt),
	}
	if e.policy != nil {
		out.FetchedAt, out.ExpiresAt = unix(e.FetchedAt), e.card.expires(now).UTC()
	}
	if e.Failure != nil {
		out.LastError, out.LastErrorAt = string(e.Failure.Why), unix(e.Failure.At)
	}
	return out
}

func unix(sec int64) time.Time {
	if sec == 0 {
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}
