package received

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/tlsrpt/inbound"
)

// Outcome says what became of something that came in.
type Outcome string

// The outcomes.
const (
	Kept      Outcome = "kept"
	Duplicate Outcome = "duplicate" // it was here before
	Foreign   Outcome = "foreign"   // it is about a domain that is not ours
	TooOld    Outcome = "too old"   // its day is before what is kept
	Full      Outcome = "full"      // the day's bound is reached
	Unread    Outcome = "unread"    // it is no report, or cannot be read
)

// Result is what became of one report, or of a place where one should have been.
type Result struct {
	Outcome Outcome `json:"outcome"`
	// Where names the place inside what came in, "" where there is one only.
	Where string `json:"where,omitempty"`
	// ID and Domain are those of the report; "" where there is none.
	ID     string `json:"id,omitempty"`
	Domain string `json:"domain,omitempty"`
	// Sender is the organization that it comes from.
	Sender string `json:"sender,omitempty"`
	// Why says more where it was not kept.
	Why string `json:"why,omitempty"`
}

// Add reads a file and keeps the reports in it. Mails in a file that is imported are verified.
// It returns when they are durable. The
// error says that it could not be read to its end, or that nothing can be stored; what
// was kept before stays.
func (a *Archive) Add(ctx context.Context, r io.Reader, name string, via Via) ([]Result, error) {
	results, _, err := a.read(ctx, r, name, via, "")
	return results, err
}

// Take reads a mail to the drop, and keeps the reports in it, or else the mail. It
// returns when that is durable; open opens the mail's content anew. queueID is for the
// log.
func (a *Archive) Take(ctx context.Context, queueID string, open func() (io.Reader, error)) error {
	content, err := open()
	if err != nil {
		return err
	}
	signed := a.verify(ctx, content)
	if content, err = open(); err != nil {
		return err
	}
	results, header, err := a.read(ctx, content, "", ByMail, signed)
	if err != nil {
		return err
	}
	reports := 0
	for _, r := range results {
		a.o.Logger.Info("TLS report received", "queue_id", queueID, "domain", r.Domain, "sender", r.Sender, "signed_by", signed, "outcome", string(r.Outcome), "why", r.Why)
		if r.Outcome != Unread {
			reports++
		}
	}
	if reports > 0 {
		return nil
	}
	if content, err = open(); err != nil {
		return err
	}
	m := &Mail{ID: hash(queueID), SignedBy: signed, Why: results[0].Why}
	if header != nil {
		m.From, m.Subject, m.MessageID = header.From, header.Subject, header.MessageID
	}
	return a.keepMail(ctx, m, content)
}

// read reads what came in, and stores each report. The mail is the header of the last
// one that was seen.
func (a *Archive) read(ctx context.Context, r io.Reader, name string, via Via, signed string) (results []Result, header *inbound.Mail, err error) {
	var verify func(io.Reader) string // what came by mail is verified already
	if via == ByImport {
		verify = func(mail io.Reader) string { return a.verify(ctx, mail) }
	}
	failed := inbound.ReadVerified(r, name, verify, func(f inbound.Found) bool {
		if f.Mail != nil {
			header = f.Mail
		}
		result := Result{Where: f.Where}
		if f.Err != nil {
			result.Outcome, result.Why = Unread, f.Err.Error()
			if !errors.Is(f.Err, inbound.ErrNoReport) {
				err = a.count(ctx, func(i *Intake) { i.Damaged++ })
			}
		} else {
			a.attribute(f.Report)
			record, sums := newRecord(f.Report, f.Original, a.o.Now())
			record.Via, record.SignedBy = via, cmp.Or(f.SignedBy, signed)
			if f.Mail != nil {
				record.From = f.Mail.From
			}
			result.ID, result.Domain, result.Sender = record.ID, record.Domain, record.Organization
			result.Outcome, result.Why, err = a.keep(ctx, record, sums, f.Original)
		}
		results = append(results, result)
		return err == nil
	})
	return results, header, cmp.Or(err, failed)
}

// attribute finds the domain of a report that names mail hosts alone: the one above them that
// is ours. The policy domain of TLSA records is their host (RFC 8460, 1.1), and what is posted
// has neither header nor file name.
func (a *Archive) attribute(r *inbound.Report) {
	if a.Known(r.Domain) || slices.ContainsFunc(r.Policies, func(p inbound.Policy) bool { return p.Type != "tlsa" }) {
		return
	}
	for above := r.Domain; above != ""; _, above, _ = strings.Cut(above, ".") {
		if a.Known(above) {
			for i := range r.Policies {
				r.Policies[i].Domain = above
			}
			r.Domain = above
			return
		}
	}
}

// keep stores a report, unless it is known, foreign or one too many.
func (a *Archive) keep(ctx context.Context, r *Record, sums []Sum, original []byte) (Outcome, string, error) {
	if r.Domain == "" {
		return Foreign, "it says of no domain that it is about it", a.count(ctx, func(i *Intake) { i.Foreign++ })
	}
	for _, domain := range append(domainsOf(sums), r.Domain) {
		if !a.Known(domain) {
			return Foreign, "it is about " + domain + ", which is not in reports.domains", a.count(ctx, func(i *Intake) { i.Foreign++ })
		}
	}
	now := a.o.Now().UTC()
	if first, last := now.Add(-a.o.Settings().Keep).Format(time.DateOnly), now.Add(48*time.Hour).Format(time.DateOnly); r.Day < first || r.Day > last {
		return TooOld, fmt.Sprintf("it is about %s; kept is what is between %s and %s (reports.keep)", r.Day, first, last), a.count(ctx, func(i *Intake) { i.Foreign++ })
	}
	a.adding.Lock()
	defer a.adding.Unlock()
	key := keyOf(kindReport, r.Day, r.ID)
	there, err := store.Get(a.o.Store, key)
	if _, damaged := errors.AsType[*store.ValueError](err); damaged || there != nil {
		return Duplicate, "it was received before", a.count(ctx, func(i *Intake) { i.Duplicates++ })
	}
	if err != nil {
		return "", "", err
	}
	in, err := a.intake(today(now))
	if err != nil {
		return "", "", err
	}
	if in.Reports >= MaxReports {
		return Full, fmt.Sprintf("%d reports were received today, and no more are kept on one day", MaxReports), a.count(ctx, func(i *Intake) { i.Dropped++ })
	}
	value, err := cbor.Marshal(r)
	if err != nil {
		return "", "", err
	}
	var b store.Batch
	b.Set(key, value)
	setOriginal(&b, r.Day, r.ID, original)
	for i := range sums {
		b.Update(sums[i].key(), sums[i].update)
	}
	b.Update(keyOf(kindIntake, today(now)), updateIntake(func(i *Intake) { i.Reports++ }))
	if err := store.Commit(ctx, a.o.Store, &b); err != nil {
		return "", "", err
	}
	a.o.Counted(r.Successful, r.Failed)
	return Kept, "", nil
}

// domainsOf returns the domains of sums.
func domainsOf(sums []Sum) (domains []string) {
	for i := range sums {
		domains = append(domains, sums[i].Domain)
	}
	return domains
}

func today(now time.Time) string { return now.UTC().Format(time.DateOnly) }

// update adds a sum to the stored one.
func (s *Sum) update(old []byte) []byte {
	next := *s
	var was Sum
	if old != nil && cbor.Unmarshal(old, &was) == nil {
		next.Sessions = inbound.Sum(next.Sessions, was.Sessions)
		next.Reason = cmp.Or(next.Reason, was.Reason)
	}
	value, err := cbor.Marshal(&next)
	if err != nil { // it has nothing that could fail
		return old
	}
	return value
}

// count changes the counts of today.
func (a *Archive) count(ctx context.Context, change func(*Intake)) error {
	var b store.Batch
	b.Update(keyOf(kindIntake, today(a.o.Now())), updateIntake(change))
	return store.Commit(ctx, a.o.Store, &b)
}

func updateIntake(change func(*Intake)) func([]byte) []byte {
	return func(old []byte) []byte {
		var i Intake
		_ = cbor.Unmarshal(old, &i) // none, or a damaged one: counted from zero
		change(&i)
		value, err := cbor.Marshal(&i)
		if err != nil { // it has nothing that could fail
			return old
		}
		return value
	}
}

// intake returns the counts of a day.
func (a *Archive) intake(day string) (Intake, error) {
	i := Intake{}
	value, err := store.Get(a.o.Store, keyOf(kindIntake, day))
	if _, damaged := errors.AsType[*store.ValueError](err); damaged {
		err = nil
	}
	_ = cbor.Unmarshal(value, &i)
	i.Day = day
	return i, err
}

// keepMail stores a mail that has no report.
func (a *Archive) keepMail(ctx context.Context, m *Mail, content io.Reader) error {
	now := a.o.Now().UTC()
	m.ReceivedAt = now
	keep := &limitedBuffer{most: inbound.MaxOriginal}
	z := gzip.NewWriter(keep)
	if _, err := io.Copy(z, content); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	m.Whole = !keep.full
	a.adding.Lock()
	defer a.adding.Unlock()
	in, err := a.intake(today(now))
	if err != nil {
		return err
	}
	if in.Mails >= maxMails {
		a.o.Logger.Warn("a mail to reports.address is not kept: too many without a report have come today", "from", m.From, "limit", maxMails)
		return a.count(ctx, func(i *Intake) { i.Mails++; i.Dropped++ })
	}
	value, err := cbor.Marshal(m)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Set(keyOf(kindMail, today(now), m.ID), value)
	setOriginal(&b, today(now), m.ID, keep.Bytes())
	b.Update(keyOf(kindIntake, today(now)), updateIntake(func(i *Intake) { i.Mails++ }))
	return store.Commit(ctx, a.o.Store, &b)
}

// limitedBuffer keeps the first octets that are written to it.
type limitedBuffer struct {
	bytes.Buffer
	most int
	full bool
}

// Write implements io.Writer. It never fails.
func (l *limitedBuffer) Write(b []byte) (int, error) {
	room := min(len(b), l.most-l.Len())
	l.full = l.full || room < len(b)
	l.Buffer.Write(b[:room])
	return len(b), nil
}
