package tlsrpt

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
)

// Options configures New. Store, Identity and LookupTXT are required.
type Options struct {
	Store store.Store
	// Neighbors returns the stores in which other relays count for the same reports. Their
	// counts are moved into Store before a report is made. nil: there are none.
	Neighbors func(ctx context.Context) ([]Neighbor, error)
	// Identity is the sender of reports; it may change while the Reporter runs.
	Identity func() Identity
	// LookupTXT asks for TXT records past all caches. The answer is empty where there
	// are none; after an error, it is not known whether there are.
	LookupTXT func(ctx context.Context, name string) ([]string, error)
	// Sign returns the DKIM-Signature fields of a message that write writes, by
	// a key of the domain. The error wraps ErrNoKey where there is none. nil:
	// there is no key.
	Sign func(domain string, write func(io.Writer) error) (fields []byte, err error)
	// Queue adds a mail to the queue. It calls also with the queue ID, which adds to
	// the batch what must be durable together with the mail. nil: reports are not
	// mailed.
	Queue func(m *Mail, also func(b *store.Batch, queueID string)) error
	// InQueue reports whether a mail is in the queue; nil: each is whose end Mailed was not
	// told.
	InQueue func(queueID string) bool
	// Post submits a report to a URL. The error is that of the attempt; it wraps
	// ErrRefused where no other attempt shall follow.
	Post func(ctx context.Context, url string, report []byte) error
	// Ended is called when a report is done at a destination: how is "mail", "https"
	// or "none" (no destination could be looked up); sent reports whether it was
	// accepted. nil: not called.
	Ended func(how string, sent bool)
	// Advice returns what the code of a failure means to the owner of a domain, and
	// its remedy, in lines of a mail; "" where the type says enough. nil: it always does.
	Advice func(code string) string
	// Skip reports whether a domain gets no reports; nil: all get reports.
	Skip func(domain string) bool
	// Now and After are the clock; default time.Now and time.After.
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Logger *slog.Logger
}

// ErrNoKey means that there is no DKIM key of the sender's domain: receivers would
// ignore its reports (RFC 8460, 3).
var ErrNoKey = phrase.Errorf("no DKIM key")

// ErrRefused means that a receiver does not want a report.
var ErrRefused = phrase.Errorf("refused")

const (
	// workers is the number of reports that are submitted at a time; they share
	// commits and wait for receivers. makers is the number of reports that are
	// written at a time: a compressor needs about 1 MiB.
	workers = 64
	makers  = 4
	// keepDays is the number of days for which counts and reports are kept and sent.
	keepDays = 7
	// spread is the time after midnight in which reports are sent, so that
	// receivers are not hit at once (RFC 8460, 4.1); quietPeriod is its
	// beginning, in which none is sent: results of the day are still being counted.
	spread      = 4 * time.Hour
	quietPeriod = time.Minute
	// lateWait is how long counts that come after the report of a day are collected.
	lateWait = 10 * time.Minute
)

// Reporter makes the reports of the days that are over and sends them.
type Reporter struct {
	o     Options
	log   *slog.Logger
	tally *Tally
	seed  []byte

	mu    sync.Mutex
	due   schedule
	busy  map[reportKey]bool // reports that are being sent
	today string             // of the last newDay

	gathered time.Time // of the last gatherLate; only Run uses it

	gzipWriters chan *gzip.Writer // idle writers; nil: not made yet
	wake        chan struct{}
}

// New opens the reporter of a store. Run must follow for anything to be sent.
func New(o Options) (*Reporter, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.Ended == nil {
		o.Ended = func(string, bool) {}
	}
	if o.InQueue == nil {
		o.InQueue = func(string) bool { return true }
	}
	if o.Skip == nil {
		o.Skip = func(string) bool { return false }
	}
	r := &Reporter{o: o, log: o.Logger, tally: NewTally(o.Logger), busy: make(map[reportKey]bool), wake: make(chan struct{}, 1)}
	r.tally.onFirstCount = r.onFirstCount
	var err error
	if r.tally.closed, err = closedDays(o.Store); err != nil {
		return nil, fmt.Errorf("TLS reports: %w", err)
	}
	r.gzipWriters = make(chan *gzip.Writer, makers)
	for range makers {
		r.gzipWriters <- nil
	}
	if r.seed, err = store.Get(o.Store, seedKey()); err != nil {
		return nil, fmt.Errorf("TLS reports: %w", err)
	}
	if len(r.seed) < 16 {
		r.seed = make([]byte, 16)
		_, _ = rand.Read(r.seed) // never fails
		if err := store.Put(context.Background(), o.Store, seedKey(), r.seed); err != nil {
			return nil, fmt.Errorf("TLS reports: %w", err)
		}
	}
	return r, nil
}

// Count adds a result to b, so that it is committed together with the result of the
// attempt. Domains that get no reports are not counted.
func (r *Reporter) Count(b *store.Batch, res Result) {
	if !r.o.Skip(res.Domain) {
		r.tally.Count(b, res)
	}
}

// derive returns random bytes that are always the same for the same report, also after
// a crash or a restart.
func (r *Reporter) derive(k reportKey) []byte {
	h := sha256.New()
	h.Write(r.seed)
	fmt.Fprintf(h, "%s/%s/%d", k.Day, k.Domain, k.Generation)
	return h.Sum(nil)
}

// unique is the random part of a report-id.
func (r *Reporter) unique(k reportKey) string { return hex.EncodeToString(r.derive(k)[:10]) }

// id is the report-id.
func (r *Reporter) id(k reportKey) string { return k.Day + "." + k.Domain + "." + r.unique(k) }

// dueAt is the time at which a report is sent: a random time after its day.
func (r *Reporter) dueAt(k reportKey) time.Time {
	day, err := ParseDay(k.Day)
	if err != nil {
		return time.Time{}
	}
	n := binary.BigEndian.Uint64(r.derive(k)[16:24])
	return day.Add(24*time.Hour + quietPeriod + time.Duration(n%uint64(spread-quietPeriod)))
}

// send makes an attempt to submit a report; with now, also before its time. The error is
// that of the store, or of ctx.
func (r *Reporter) send(ctx context.Context, k reportKey, now bool) error {
	var s submission
	found, err := load(r.o.Store, submissionKey(k), &s)
	if err != nil {
		return err
	}
	if !found {
		if err := r.gather(ctx, k.Day, k.Domain); err != nil {
			return err
		}
		if s, err = r.closeCounts(ctx, k); err != nil {
			return err
		}
	}
	if s.ended() || !now && !s.due(r.o.Now()) {
		return nil
	}
	rua, skip, err := r.destinations(ctx, k)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var results []destination
	switch {
	case skip != "":
	case err != nil:
		results = append(results, s.To...)
		results = append(results, destination{URI: RecordName(k.Domain), Progress: Pending, Why: err.Error()})
	default:
		if results, err = r.submit(ctx, k, &s, rua); err != nil {
			return err
		}
	}
	return r.finish(ctx, k, skip, results)
}

// closeCounts closes the counts of a report. The committer does that after all counts
// that were submitted before.
func (r *Reporter) closeCounts(ctx context.Context, k reportKey) (submission, error) {
	s := submission{State: Waiting, First: r.o.Now().UTC().Truncate(time.Second)}
	counted := false
	var b store.Batch
	b.Do(2, 1024, func(txn store.Txn) (err error) {
		if counted, err = r.tally.closeGeneration(txn, k); err != nil || !counted {
			return err
		}
		return txn.Set(submissionKey(k), encode(s))
	})
	err := store.Commit(ctx, r.o.Store, &b)
	if err == nil && !counted {
		s.State = Skipped // it was removed with its day
	}
	return s, err
}

// destinations looks up the record of the domain. skip is why the report is not sent;
// after an error, that is not known.
func (r *Reporter) destinations(ctx context.Context, k reportKey) (rua []Destination, skip string, err error) {
	if r.o.Skip(k.Domain) {
		return nil, "switched off by the configuration (tlsrpt.skip)", nil
	}
	txt, err := r.o.LookupTXT(ctx, RecordName(k.Domain))
	if err != nil {
		return nil, "", err
	}
	rec, err := ParseRecord(txt)
	switch {
	case errors.Is(err, ErrNoRecord):
		return nil, "the domain publishes no TLS-RPT record", nil
	case err != nil:
		return nil, err.Error(), nil //nolint:nilerr // an invalid record counts as none
	case len(rec.RUA) == 0:
		return nil, "the TLS-RPT record has no address that could be used: " + phrase.Join(rec.Ignored, "; ").String(), nil
	}
	return rec.RUA, "", nil
}

// submit tries the destinations that are still pending.
func (r *Reporter) submit(ctx context.Context, k reportKey, s *submission, rua []Destination) ([]destination, error) {
	p := outgoing{r: r, key: k}
	var out []destination
	for i, d := range rua {
		to := destination{URI: d.String(), Progress: Pending}
		if before := s.find(to.URI); before != nil && before.Progress != Pending {
			out = append(out, *before)
			continue
		}
		var err error
		if d.Scheme == Mailto {
			err = p.mail(d.Target, &to)
		} else {
			err = p.post(ctx, d.Target, &to)
		}
		if err != nil {
			return nil, err
		}
		to.Why = iJSON(to.Why)
		if ctx.Err() != nil && to.Progress == Pending {
			return nil, context.Cause(ctx) // the relay stops; that is no failure
		}
		if to.ended() && i+1 < len(rua) {
			if err := r.note(ctx, k, to); err != nil {
				return nil, err
			}
		}
		out = append(out, to)
	}
	return out, nil
}

// note stores that a report is done at a destination while the others are tried: after a stop
// or a crash it must not be sent there again.
func (r *Reporter) note(ctx context.Context, k reportKey, d destination) error {
	var b store.Batch
	change(&b, k, func(s *submission) { s.set(d) })
	if err := store.Commit(context.WithoutCancel(ctx), r.o.Store, &b); err != nil {
		return err
	}
	r.o.Ended(d.how(), d.Progress == Accepted)
	return nil
}

// finish stores the results of an attempt. The result of a mail that came meanwhile
// stays.
func (r *Reporter) finish(ctx context.Context, k reportKey, skip string, results []destination) error {
	now := r.o.Now().UTC().Truncate(time.Second)
	var before, after submission
	var b store.Batch
	change(&b, k, func(s *submission) {
		before = s.clone()
		s.Attempts++
		if skip != "" {
			s.end(Skipped, skip, now)
		} else {
			s.merge(results)
			s.evaluate(now)
		}
		after = *s
	})
	if err := store.Commit(ctx, r.o.Store, &b); err != nil {
		return err
	}
	if after.State == "" {
		return nil // it was removed with its day
	}
	r.announce(k, &before, &after)
	if !after.ended() && !after.Next.IsZero() {
		r.plan(k, after.Next)
	}
	return nil
}

// announce logs the state of a report, and calls Ended for the destinations that are
// done now.
func (r *Reporter) announce(k reportKey, before, s *submission) {
	for _, d := range s.To {
		if old := before.find(d.URI); d.ended() && (old == nil || !old.ended()) {
			r.o.Ended(d.how(), d.Progress == Accepted)
		}
	}
	fields := []any{"domain", k.Domain, "day", k.Day, "report_id", r.id(k), "why", s.Why, "attempt", s.Attempts}
	switch {
	case s.State == Skipped:
		r.log.Debug("TLS report not wanted", fields...)
	case s.State == Failed:
		r.log.Warn("TLS report given up", fields...)
	case s.State == Waiting && s.Next.IsZero():
		r.log.Info("TLS report queued", fields...)
	case s.State == Waiting:
		r.log.Info("TLS report is tried again later", fields...)
	default:
		r.log.Info("TLS report delivered", fields...)
	}
}

// Mailed records the end of a queued mail of a report: why is "" where it was
// delivered.
func (r *Reporter) Mailed(ctx context.Context, queueID, why string) {
	var k reportKey
	found, err := load(r.o.Store, mailKey(queueID), &k)
	if err != nil || !found {
		return // a report of long ago
	}
	now := r.o.Now().UTC().Truncate(time.Second)
	var before, after submission
	var b store.Batch
	change(&b, k, func(s *submission) {
		before = s.clone()
		for i := range s.To {
			if d := &s.To[i]; d.QueueID == queueID {
				d.Progress, d.Why = Accepted, ""
				if why != "" {
					d.Progress, d.Why = Refused, iJSON(why)
				}
			}
		}
		if s.State == Waiting || s.State == Failed {
			next := s.Next
			s.evaluate(now)
			if s.State == Waiting {
				s.Next = next
			}
		}
		after = *s
	})
	b.Delete(mailKey(queueID))
	b.RetryWhenFull()
	r.o.Store.Submit(&b, func(err error) {
		if err == nil && after.State != "" {
			r.announce(k, &before, &after)
		}
	})
}
