// Package received keeps the TLS reports about the operator's own domains that others
// send (RFC 8460): it takes them in, counts them once, sums them by day, and says what
// the sums mean: what to mend, and whether a domain is ready for enforce.
//
// The keys, below store.PrefixReceived:
//
//	r/DAY/ID   a report: CBOR of Record; 90 days
//	m/DAY/ID   a mail to the drop that has no report: CBOR of Mail; 30 days
//	o/DAY/ID/N what came, compressed, in pieces: of a report its JSON, of a mail all of it
//	s/DAY/SUM  sessions of a day: CBOR of Sum; Settings.Keep
//	c/DAY      what came in on a day: CBOR of Intake; Settings.Keep
//
// DAY is the day that a report is about; of mails and counts the day on which they came.
package received

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// keepReports and keepMails are how long reports, and mails that are none, are kept.
	keepReports = 90 * 24 * time.Hour
	keepMails   = 30 * 24 * time.Hour
	// MaxReports is the number of reports that are taken in on one day, maxMails that of
	// mails without a report that are kept.
	MaxReports = 5000
	maxMails   = 500
	// pieceSize is the size of one piece of an original; a value of the store has 256 KiB
	// at most.
	pieceSize = 200 << 10
	cleanup   = time.Hour
)

// Settings may change while the archive is open.
type Settings struct {
	// Keep is how long sums are kept.
	Keep time.Duration
	// Domains are those whose reports are kept; empty: all.
	Domains []string
}

// Options configures Open. Store and Settings are required.
type Options struct {
	Store    store.Store
	Settings func() Settings
	// LookupTXT looks up the DKIM keys of mails with reports; nil: no mail can be
	// verified.
	LookupTXT func(ctx context.Context, name string) ([]string, error)
	// Counted is called with the sessions of each report that is kept; nil: nobody
	// counts them.
	Counted func(successful, failed int64)
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
	// After is the clock of Run; nil: time.After.
	After  func(time.Duration) <-chan time.Time
	Logger *slog.Logger
}

// Archive has the reports. Its methods are called from many goroutines.
type Archive struct {
	o Options

	adding sync.Mutex // held from the look whether a report is there to the end of its commit
}

// Open returns an archive on an open store.
func Open(o Options) *Archive {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Counted == nil {
		o.Counted = func(int64, int64) {}
	}
	return &Archive{o: o}
}

// Known reports whether reports about a domain are kept.
func (a *Archive) Known(domain string) bool {
	domains := a.o.Settings().Domains
	return len(domains) == 0 || slices.Contains(domains, domain)
}

// Run deletes what is too old, until ctx ends.
func (a *Archive) Run(ctx context.Context) {
	for {
		if err := a.Cleanup(ctx); err != nil && ctx.Err() == nil {
			a.o.Logger.Error("old TLS reports cannot be deleted; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.o.After(cleanup):
		}
	}
}

// Cleanup deletes what is older than it is kept.
func (a *Archive) Cleanup(ctx context.Context) error {
	now, keep := a.o.Now(), a.o.Settings().Keep
	for _, old := range []struct {
		kind string
		keep time.Duration
	}{{kindReport, keepReports}, {kindMail, keepMails}, {kindOriginal, keepReports}, {kindSum, keep}, {kindIntake, keep}} {
		if err := a.deleteBefore(ctx, old.kind, now.Add(-old.keep).UTC().Format(time.DateOnly)); err != nil {
			return err
		}
	}
	return nil
}

// deleteBefore deletes the keys of a kind of the days before one, some hundred at a time.
func (a *Archive) deleteBefore(ctx context.Context, kind, day string) error {
	for ctx.Err() == nil {
		var b store.Batch
		err := a.o.Store.ScanKeys(keyOf(kind), nil, func(k []byte) error {
			if d, ok := dayOf(k); !ok || d >= day || b.Len() == 500 {
				return store.Stop
			}
			b.Delete(bytes.Clone(k))
			return nil
		})
		if err != nil || b.Len() == 0 {
			return err
		}
		if err := store.Commit(ctx, a.o.Store, &b); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// The kinds of keys; see the package.
const (
	kindReport   = "r/"
	kindMail     = "m/"
	kindOriginal = "o/"
	kindSum      = "s/"
	kindIntake   = "c/"
)

// keyOf returns the key of a kind with parts behind it.
func keyOf(kind string, parts ...string) []byte {
	k := append(bytes.Clone(store.PrefixReceived), kind...)
	for i, p := range parts {
		if i > 0 {
			k = append(k, '/')
		}
		k = append(k, p...)
	}
	return k
}

// dayOf returns the day in a key.
func dayOf(key []byte) (string, bool) {
	at := len(store.PrefixReceived) + len(kindReport)
	if len(key) < at+len(time.DateOnly) {
		return "", false
	}
	return string(key[at : at+len(time.DateOnly)]), true
}

// scan calls yield with the values of a kind from a day on, and decodes each into v
// before. What cannot be decoded is left out: one damaged value must not hide the others.
func scan[T any](a *Archive, kind, from string, yield func(key []byte, v *T) error) error {
	start := keyOf(kind, from)
	for {
		err := a.o.Store.Scan(keyOf(kind), start, func(k, value []byte) error {
			v := new(T)
			if err := cbor.Unmarshal(value, v); err != nil {
				return nil //nolint:nilerr // see above
			}
			return yield(k, v)
		})
		damaged, ok := errors.AsType[*store.ValueError](err)
		if !ok {
			return err
		}
		start = append(bytes.Clone(damaged.Key), 0)
	}
}

// original returns the compressed octets that were kept under a day and an ID.
func (a *Archive) original(day, id string) ([]byte, error) {
	var whole []byte
	err := a.o.Store.Scan(append(keyOf(kindOriginal, day, id), '/'), nil, func(_, value []byte) error {
		whole = append(whole, value...)
		return nil
	})
	return whole, err
}

// setOriginal adds the pieces of an original to a batch.
func setOriginal(b *store.Batch, day, id string, whole []byte) {
	for n := 0; len(whole) > 0; n++ {
		piece := whole[:min(len(whole), pieceSize)]
		b.Set(keyOf(kindOriginal, day, id, fmt.Sprintf("%04d", n)), piece)
		whole = whole[len(piece):]
	}
}
