package sts

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"
)

const (
	// The back-off of failed fetches of one id (RFC 8461, 3.3: five minutes).
	minBackoff = 5 * time.Minute
	maxBackoff = time.Hour
	// forcedEvery bounds the fetches that a refused delivery asks for.
	forcedEvery = 5 * time.Minute
)

// Entry is what the cache knows of a domain.
type Entry struct {
	Domain string
	// ID is the record's id that Policy was fetched under, "" if there was no
	// record to be had then.
	ID string
	// Policy is the last one that was fetched, nil where none ever was.
	Policy      *Policy
	FetchedAt   time.Time
	ExpiresAt   time.Time
	LastUsed    time.Time
	NextRefresh time.Time
	// LastError tells of the last fetch if it failed.
	LastError   string
	LastErrorAt time.Time
}

// record is an entry as it is kept, in memory and in the store. It is never
// changed: a change makes a new one.
type record struct {
	ID        string   `cbor:"1,keyasint,omitempty"`
	Mode      Mode     `cbor:"2,keyasint,omitempty"` // "": no policy
	MaxAge    int64    `cbor:"3,keyasint,omitempty"` // seconds
	MX        []string `cbor:"4,keyasint,omitempty"`
	FetchedAt int64    `cbor:"5,keyasint,omitempty"` // Unix seconds, as all times here
	UsedAt    int64    `cbor:"6,keyasint,omitempty"`
	RefreshAt int64    `cbor:"7,keyasint,omitempty"`

	// The last failure, and for which id it was.
	FailedID   string      `cbor:"8,keyasint,omitempty"`
	FailedAt   int64       `cbor:"9,keyasint,omitempty"`
	Failures   int         `cbor:"10,keyasint,omitempty"` // in a row, for FailedID
	FailedWhy  string      `cbor:"11,keyasint,omitempty"`
	FailedType FailureType `cbor:"12,keyasint,omitempty"`
	FailedText string      `cbor:"13,keyasint,omitempty"` // what was received instead of a policy
	NoHost     bool        `cbor:"14,keyasint,omitempty"` // the policy host does not exist
}

// entry is a record in use.
type entry struct {
	record
	policy   *Policy      // of the record, nil where it has none
	used     atomic.Int64 // Unix seconds of the last lookup
	forcedAt atomic.Int64 // of the last fetch that a refused delivery asked for
}

func newEntry(r record) *entry {
	e := &entry{record: r}
	if r.Mode != "" {
		e.policy = &Policy{Mode: r.Mode, MaxAge: time.Duration(r.MaxAge) * time.Second, MX: r.MX}
	}
	e.used.Store(r.UsedAt)
	return e
}

// with returns a changed copy.
func (e *entry) with(change func(*record)) *entry {
	r := record{}
	if e != nil {
		r = e.record
		r.UsedAt = e.used.Load()
	}
	change(&r)
	n := newEntry(r)
	if e != nil {
		n.forcedAt.Store(e.forcedAt.Load())
	}
	return n
}

// expires is when the policy ends. A clock that was set back does not make it
// last longer than its max_age from now.
func (e *entry) expires(now time.Time) time.Time {
	age := time.Duration(e.MaxAge) * time.Second
	end := time.Unix(e.FetchedAt, 0).Add(age)
	if limit := now.Add(age); end.After(limit) {
		return limit
	}
	return end
}

// valid says that e has a policy that is in force.
func (e *entry) valid(now time.Time) bool {
	return e != nil && e.policy != nil && now.Before(e.expires(now))
}

// backingOff says that a fetch for id failed so short a time ago that it is not
// tried again yet.
func (e *entry) backingOff(id string, now time.Time) bool {
	if e == nil || e.Failures == 0 || e.FailedID != id {
		return false
	}
	wait := min(minBackoff<<min(e.Failures-1, 10), maxBackoff)
	since := now.Sub(time.Unix(e.FailedAt, 0))
	return since >= 0 && since < wait
}

// failure is the last failed fetch as an error.
func (e *entry) failure(domain string) *FetchError {
	if e == nil || e.Failures == 0 {
		return nil
	}
	return &FetchError{Type: e.FailedType, Domain: domain, Text: e.FailedText, Err: errors.New(e.FailedWhy)}
}

func (e *entry) export(domain string, now time.Time) Entry {
	out := Entry{Domain: domain, ID: e.ID, Policy: e.policy, LastUsed: unix(e.used.Load()), NextRefresh: unix(e.RefreshAt)}
	if e.policy != nil {
		out.FetchedAt, out.ExpiresAt = unix(e.FetchedAt), e.expires(now).UTC()
	}
	if e.Failures > 0 {
		out.LastError, out.LastErrorAt = e.FailedWhy, unix(e.FailedAt)
	}
	return out
}

func unix(sec int64) time.Time {
	if sec == 0 {
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}

// load reads all entries. One that cannot be read is as if it were not there,
// and is fetched again when it is needed.
func (m *Manager) load() error {
	return m.o.Store.Scan(m.o.Prefix, func(k, v []byte) error {
		domain := string(k[len(m.o.Prefix):])
		var r record
		if err := cbor.Unmarshal(v, &r); err != nil {
			m.o.Logger.Error("a cached policy cannot be read and is fetched again when it is needed", slog.String("domain", domain), slog.Any("error", err))
			return nil
		}
		m.entries[domain] = newEntry(r)
		return nil
	})
}

func (m *Manager) key(domain string) []byte {
	return append(append(make([]byte, 0, len(m.o.Prefix)+len(domain)), m.o.Prefix...), domain...)
}
