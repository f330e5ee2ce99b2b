package history

import (
	"bytes"
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

	"github.com/klauspost/compress/zstd"
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
	s, err := newSearch(l.o.Dir, l.o.Key, q, fn)
	if err != nil {
		return err
	}
	defer s.dec.Close()
	return s.run(ctx)
}

// search is one pass over the files.
type search struct {
	dir     string
	key     []byte
	q       Query
	fn      func(Record) bool
	dec     *zstd.Decoder
	needles [][]byte // each matching line has one of them, in lower case
	raw     []byte
	lower   []byte
	found   int
}

func newSearch(dir string, key []byte, q Query, fn func(Record) bool) (*search, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame))
	if err != nil {
		return nil, fmt.Errorf("search the history: %w", err)
	}
	q.MessageID = strings.Trim(q.MessageID, "<>")
	s := &search{dir: dir, key: key, q: q, fn: fn, dec: dec}
	s.needles = s.rarest()
	return s, nil
}

// rarest returns texts of which every matching record has at least one in its line. A
// line without one of them does not need to be parsed as JSON.
func (s *search) rarest() [][]byte {
	quoted := func(v string) []byte {
		b := appendText(nil, strings.ToLower(v))
		return b[1 : len(b)-1]
	}
	address := func(v string) [][]byte {
		return [][]byte{quoted(v), []byte(hashed(v, s.key))}
	}
	switch q := &s.q; {
	case q.MessageID != "":
		return [][]byte{quoted(q.MessageID)}
	case q.QueueID != "":
		return [][]byte{quoted(q.QueueID)}
	case q.To != "":
		return address(q.To)
	case q.From != "":
		return address(q.From)
	case q.Domain != "":
		return [][]byte{quoted(q.Domain)}
	}
	return nil
}

var errEnough = errors.New("enough was found")

func (s *search) run(ctx context.Context) error {
	list, err := days(s.dir)
	if err != nil {
		return err
	}
	if !s.q.OldestFirst {
		slices.Reverse(list)
	}
	for _, d := range list {
		begin, err := time.Parse(time.DateOnly, d.day)
		if err != nil {
			return fmt.Errorf("search the history: %w", err)
		}
		if !s.q.Until.IsZero() && !begin.Before(s.q.Until) || begin.AddDate(0, 0, 1).Before(s.q.Since) {
			continue
		}
		err = s.file(ctx, d.day)
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

func (s *search) file(ctx context.Context, day string) error {
	f, err := os.Open(filepath.Join(s.dir, day+fileSuffix)) //nolint:gosec // the day is that of a file of the folder
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	list, _, _, err := frames(f, info.Size())
	if err != nil {
		return err
	}
	if !s.q.OldestFirst {
		slices.Reverse(list)
	}
	for _, p := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !s.q.Until.IsZero() && !p.from.Before(s.q.Until) || p.to.Before(s.q.Since) {
			continue
		}
		frame, err := readFrame(f, p)
		if err != nil {
			return err
		}
		if s.raw, err = s.dec.DecodeAll(frame, s.raw[:0]); err != nil {
			continue // skip a damaged frame; the others are sound
		}
		if err := s.lines(s.raw); err != nil {
			return err
		}
	}
	return nil
}

// lines passes the matching lines of one frame to fn.
func (s *search) lines(raw []byte) error {
	if len(s.needles) > 0 {
		s.lower = appendLower(s.lower[:0], raw)
		if !slices.ContainsFunc(s.needles, func(n []byte) bool { return bytes.Contains(s.lower, n) }) {
			return nil
		}
	}
	var hits []Record
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n') + 1
		if end == 0 {
			end = len(raw)
		}
		line := raw[:end]
		raw = raw[end:]
		if len(s.needles) > 0 {
			low := s.lower[:end]
			s.lower = s.lower[end:]
			if !slices.ContainsFunc(s.needles, func(n []byte) bool { return bytes.Contains(low, n) }) {
				continue
			}
		}
		var r Record
		if json.Unmarshal(line, &r) == nil && s.wants(&r) {
			hits = append(hits, r)
		}
	}
	slices.SortStableFunc(hits, func(a, b Record) int { return a.At.Compare(b.At) })
	if !s.q.OldestFirst {
		slices.Reverse(hits)
	}
	for _, r := range hits {
		s.found++
		if !s.fn(r) || s.found == s.q.Limit {
			return errEnough
		}
	}
	return nil
}

// appendLower appends b with A to Z in lower case. Other letters are not changed.
func appendLower(to, b []byte) []byte {
	begin := len(to)
	to = append(to, b...)
	for i, c := range to[begin:] {
		if 'A' <= c && c <= 'Z' {
			to[begin+i] = c + 'a' - 'A'
		}
	}
	return to
}

// wants reports whether r matches the query.
func (s *search) wants(r *Record) bool {
	q := &s.q
	switch {
	case len(q.Kinds) > 0 && !slices.Contains(q.Kinds, r.Kind),
		!q.Since.IsZero() && r.At.Before(q.Since),
		!q.Until.IsZero() && !r.At.Before(q.Until),
		q.QueueID != "" && !strings.HasPrefix(strings.ToUpper(r.QueueID), strings.ToUpper(q.QueueID)),
		q.MessageID != "" && !strings.EqualFold(strings.Trim(r.MessageID, "<>"), q.MessageID),
		q.Verdict != "" && r.Verdict != q.Verdict,
		q.Proof != "" && (r.TLS == nil || r.TLS.Proof != q.Proof),
		q.From != "" && !s.same(r.From, q.From),
		q.To != "" && !slices.ContainsFunc(r.To, func(to string) bool { return s.same(to, q.To) }):
		return false
	}
	return q.Domain == "" || strings.EqualFold(r.Domain, q.Domain) ||
		slices.ContainsFunc(r.To, func(to string) bool {
			return strings.EqualFold(to[strings.LastIndexByte(to, '@')+1:], q.Domain)
		})
}

// same reports whether a stored address, plain or hashed, is the wanted one.
func (s *search) same(kept, wanted string) bool {
	return strings.EqualFold(kept, wanted) || strings.EqualFold(kept, AddressesHashed.address(wanted, s.key))
}
