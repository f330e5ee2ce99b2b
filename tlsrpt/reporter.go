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
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Options configures New. Store, Identity and LookupTXT are required.
type Options struct {
	Store store.Store
	// Identity is in whose name reports are made; it may change while it runs.
	Identity func() Identity
	// LookupTXT asks for TXT records past all caches. That there are none is an
	// empty answer; an error means that nobody knows.
	LookupTXT func(ctx context.Context, name string) ([]string, error)
	// Sign returns the DKIM-Signature fields of a message that write writes, by
	// a key of the domain. The error wraps ErrNoKey where there is none. nil:
	// there never is.
	Sign func(domain string, write func(io.Writer) error) (fields []byte, err error)
	// Queue takes a mail in. also is called with its name in the queue, and puts
	// what must be durable together with the mail into the batch. nil: reports
	// are not mailed.
	Queue func(m *Mail, also func(b *store.Batch, queueID string)) error
	// Post submits a report to a URL. The error is an error of that attempt; it
	// wraps ErrRefused where another one makes no sense.
	Post func(ctx context.Context, url string, report []byte) error
	// Ended is told of every end that a report comes to at a destination: how it
	// went there, "mail", "https" or "none" (no destination could be looked up), and
	// whether it was sent. nil: nobody is told.
	Ended func(how string, sent bool)
	// Advice returns what the code of a failure means to the owner of a domain, and
	// what helps, in lines of a mail; "" where its type says enough. nil: it always does.
	Advice func(code string) string
	// Skip says for which domains no reports are made; nil: none.
	Skip func(domain string) bool
	// Now and After are the clock; default time.Now and time.After.
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Logger *slog.Logger
}

// ErrNoKey says that there is no DKIM key of the sender's domain: its reports
// would be thrown away unread (RFC 8460, 3).
var ErrNoKey = errors.New("no DKIM key")

// ErrRefused says that a receiver does not want a report.
var ErrRefused = errors.New("refused")

const (
	// workers is how many reports are under way at a time; they share commits
	// and wait for receivers. makers is how many of them are being written: a
	// compressor needs about 1 MiB.
	workers = 64
	makers  = 4
	// keepDays is for how many days counts and reports are kept, and sent.
	keepDays = 7
	// spread is the time after midnight in which reports are sent, so that
	// receivers are not hit at once (RFC 8460, 4.1); quiet is the part of it in
	// which none is, for what is still being counted of the day.
	spread = 4 * time.Hour
	quiet  = time.Minute
	// lateWait is how long counts that come after a day's report are gathered.
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
	busy  map[reportKey]bool // being sent
	today string             // of the last newDay

	zips chan *gzip.Writer // idle ones, nil where it was not needed yet
	wake chan struct{}
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
	if o.Skip == nil {
		o.Skip = func(string) bool { return false }
	}
	r := &Reporter{o: o, log: o.Logger, tally: NewTally(o.Logger), busy: make(map[reportKey]bool), wake: make(chan struct{}, 1)}
	r.tally.begun = r.begun
	var err error
	if r.tally.closed, err = closedDays(o.Store); err != nil {
		return nil, fmt.Errorf("TLS reports: %w", err)
	}
	r.zips = make(chan *gzip.Writer, makers)
	for range makers {
		r.zips <- nil
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

// Count adds a result to b, to be committed with what led to it. Nothing is
// counted of domains that get no reports.
func (r *Reporter) Count(b *store.Batch, res Result) {
	if !r.o.Skip(res.Domain) {
		r.tally.Count(b, res)
	}
}

// draw is the random part of a report: the same for the same report for ever,
// so that neither a crash nor a restart draws again.
func (r *Reporter) draw(k reportKey) []byte {
	h := sha256.New()
	h.Write(r.seed)
	fmt.Fprintf(h, "%s/%s/%d", k.Day, k.Domain, k.Generation)
	return h.Sum(nil)
}

// unique is the random part of a report-id.
func (r *Reporter) unique(k reportKey) string { return hex.EncodeToString(r.draw(k)[:10]) }

// id is the report-id.
func (r *Reporter) id(k reportKey) string { return k.Day + "." + k.Domain + "." + r.unique(k) }

// dueAt is when a report is to be sent: at a random time after its day.
func (r *Reporter) dueAt(k reportKey) time.Time {
	day, err := ParseDay(k.Day)
	if err != nil {
		return time.Time{}
	}
	n := binary.BigEndian.Uint64(r.draw(k)[16:24])
	return day.Add(24*time.Hour + quiet + time.Duration(n%uint64(spread-quiet)))
}

// send makes an attempt at a report, before its time only if it is asked for
// now. The error is one of the store, or of ctx.
func (r *Reporter) send(ctx context.Context, k reportKey, now bool) error {
	var s submission
	found, err := load(r.o.Store, submissionKey(k), &s)
	if err != nil {
		return err
	}
	if !found {
		if s, err = r.begin(ctx, k); err != nil {
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

// begin closes the counts of a report. The committer comes to it after all that
// was counted before, also where that is still being written.
func (r *Reporter) begin(ctx context.Context, k reportKey) (submission, error) {
	s := submission{State: Waiting, First: r.o.Now().UTC().Truncate(time.Second)}
	counted := false
	var b store.Batch
	b.Do(2, 1024, func(txn store.Txn) (err error) {
		if counted, err = r.tally.close(txn, k); err != nil || !counted {
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

// destinations looks the domain's record up. skip says why there is nothing to
// send; an error means that nobody can tell now.
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
		return nil, "the TLS-RPT record has no address that could be used: " + strings.Join(rec.Ignored, "; "), nil
	}
	return rec.RUA, "", nil
}

// submit tries the destinations that have not come to an end.
func (r *Reporter) submit(ctx context.Context, k reportKey, s *submission, rua []Destination) ([]destination, error) {
	p := parcel{r: r, key: k}
	var out []destination
	for _, d := range rua {
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
		if ctx.Err() != nil && to.Progress == Pending {
			return nil, context.Cause(ctx) // we stop; it is nobody's failure
		}
		out = append(out, to)
	}
	return out, nil
}

// finish writes down what the attempt came to. What a mail has come to in the
// meantime stands.
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
			s.settle(now)
		}
		after = *s
	})
	if err := store.Commit(ctx, r.o.Store, &b); err != nil {
		return err
	}
	if after.State == "" {
		return nil // it was removed with its day
	}
	r.tell(k, &before, &after)
	if !after.ended() && !after.Next.IsZero() {
		r.plan(k, after.Next)
	}
	return nil
}

// tell writes the log line of what a report has come to, and tells of the
// destinations that have come to an end.
func (r *Reporter) tell(k reportKey, before, s *submission) {
	for _, d := range s.To {
		if old := before.find(d.URI); d.ended() && (old == nil || !old.ended()) {
			r.o.Ended(d.how(), d.Progress == Accepted)
		}
	}
	level, msg := slog.LevelInfo, "TLS report delivered"
	switch s.State {
	case Skipped:
		level, msg = slog.LevelDebug, "TLS report not wanted"
	case Failed:
		level, msg = slog.LevelWarn, "TLS report given up"
	case Waiting:
		msg = "TLS report queued"
		if !s.Next.IsZero() {
			msg = "TLS report is tried again later"
		}
	}
	r.log.Log(context.Background(), level, msg, "domain", k.Domain, "day", k.Day, "report_id", r.id(k), "why", s.Why, "attempt", s.Attempts)
}

// Mailed tells what became of a queued mail of a report: why is "" where the
// receiver's host has taken it.
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
					d.Progress, d.Why = Refused, why
				}
			}
		}
		if s.State == Waiting || s.State == Failed {
			next := s.Next
			s.settle(now)
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
			r.tell(k, &before, &after)
		}
	})
}
