package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Query selects records. A record must match all fields that are set.
type Query struct {
	Kinds []Kind
	// From and To are whole addresses; Domain is a recipient's domain. Case is
	// ignored.
	From, To, Domain string
	// MessageID may be with or without its angle brackets.
	MessageID string
	// QueueID may be the beginning of a queue ID.
	QueueID string
	Verdict string
	Proof   Proof
	// Since (inclusive) and Until (exclusive) bound the time.
	Since, Until time.Time
	// Limit is the largest number of records; 0: no limit.
	Limit int
	// OldestFirst reports whether the oldest record comes first instead of the newest.
	OldestFirst bool
}

// Search calls fn for the records that match q, until fn returns false. Records that were
// added before the call are included.
func (l *Log) Search(ctx context.Context, q Query, fn func(Record) bool) error {
	if err := l.Sync(ctx); ctx.Err() != nil {
		return err
	}
	q.MessageID = strings.Trim(q.MessageID, "<>")
	s := &search{dir: l.o.Dir, m: matcher{q: q, key: l.o.Key}, fn: fn}
	s.m.needles = s.m.rarest()
	r, err := newReader()
	if err != nil {
		return fmt.Errorf("search the history: %w", err)
	}
	defer r.close()
	return s.run(ctx, r)
}

// search is one pass over the files.
type search struct {
	dir   string
	m     matcher
	fn    func(Record) bool
	found int
}

var errEnough = errors.New("enough was found")

func (s *search) run(ctx context.Context, r *reader) error {
	list, err := days(s.dir)
	if err != nil {
		return err
	}
	q := &s.m.q
	if !q.OldestFirst {
		slices.Reverse(list)
	}
	for _, d := range list {
		begin, err := time.Parse(time.DateOnly, d.day)
		if err != nil {
			return fmt.Errorf("search the history: %w", err)
		}
		if !q.Until.IsZero() && !begin.Before(q.Until) || begin.AddDate(0, 0, 1).Before(q.Since) {
			continue
		}
		err = s.file(ctx, r, d.day)
		if errors.Is(err, errEnough) {
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // the file was deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("search the history of %s: %w", d.day, err)
		}
	}
	return nil
}

func (s *search) file(ctx context.Context, r *reader, day string) error {
	f, err := os.Open(filepath.Join(s.dir, day+fileSuffix)) //nolint:gosec // the day is that of a file of the folder
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	list, err := chunks(f, info.Size(), s.m.q.Since, s.m.q.Until)
	if err != nil {
		return err
	}
	if !s.m.q.OldestFirst {
		slices.Reverse(list)
	}
	return r.each(ctx, f, list, s.m.lines, s.pass)
}

// pass hands the records of a chunk to fn.
func (s *search) pass(hits []Record) error {
	slices.SortStableFunc(hits, func(a, b Record) int { return a.At.Compare(b.At) })
	if !s.m.q.OldestFirst {
		slices.Reverse(hits)
	}
	for _, r := range hits {
		s.found++
		if !s.fn(r) || s.found == s.m.q.Limit {
			return errEnough
		}
	}
	return nil
}

// matcher finds the records that a query wants. Several goroutines may use it.
type matcher struct {
	q       Query
	key     []byte   // for addresses that are kept hashed
	needles []needle // each line that matches has one of them; none: every line may match
}

// lines returns the records of lines that match.
func (m *matcher) lines(raw []byte) (hits []Record) {
	for line := range candidates(raw, m.needles) {
		var r Record
		if json.Unmarshal(line, &r) == nil && m.wants(&r) {
			hits = append(hits, r)
		}
	}
	return hits
}

// rarest returns texts of which every record that matches has at least one in its line: a
// line without one of them does not need to be parsed as JSON.
func (m *matcher) rarest() []needle {
	switch q := &m.q; {
	case q.MessageID != "":
		return needles(inside(q.MessageID))
	case q.QueueID != "":
		return needles(`"queue_id":"` + inside(q.QueueID))
	case q.To != "":
		return needles(whole(q.To), `"`+hashed(q.To, m.key)+"@")
	case q.From != "":
		return needles(whole(q.From), `"`+hashed(q.From, m.key)+"@")
	case q.Domain != "":
		return needles(inside(q.Domain) + `"`)
	}
	return nil
}

// whole returns a value as a line has it, in quotes.
func whole(value string) string { return string(appendText(nil, value)) }

// inside returns a value as a line has it, without the quotes around it.
func inside(value string) string { return strings.TrimSuffix(whole(value)[1:], `"`) }

// wants reports whether r matches the query.
func (m *matcher) wants(r *Record) bool {
	q := &m.q
	switch {
	case len(q.Kinds) > 0 && !slices.Contains(q.Kinds, r.Kind),
		!q.Since.IsZero() && r.At.Before(q.Since),
		!q.Until.IsZero() && !r.At.Before(q.Until),
		q.QueueID != "" && !strings.HasPrefix(strings.ToUpper(r.QueueID), strings.ToUpper(q.QueueID)),
		q.MessageID != "" && !strings.EqualFold(strings.Trim(r.MessageID, "<>"), q.MessageID),
		q.Verdict != "" && r.Verdict != q.Verdict,
		q.Proof != "" && (r.TLS == nil || r.TLS.Proof != q.Proof),
		q.From != "" && !m.same(r.From, q.From),
		q.To != "" && !slices.ContainsFunc(r.To, func(to string) bool { return m.same(to, q.To) }):
		return false
	}
	return q.Domain == "" || strings.EqualFold(r.Domain, q.Domain) ||
		slices.ContainsFunc(r.To, func(to string) bool {
			return strings.EqualFold(to[strings.LastIndexByte(to, '@')+1:], q.Domain)
		})
}

// same reports whether a stored address, plain or hashed, is the wanted one.
func (m *matcher) same(kept, wanted string) bool {
	return strings.EqualFold(kept, wanted) || strings.EqualFold(kept, AddressesHashed.address(wanted, m.key))
}
