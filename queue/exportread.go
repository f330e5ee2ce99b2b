package queue

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"unicode"

	"github.com/oklog/ulid/v2"
)

// Transfer is the result of reading an export file, or of importing it.
type Transfer struct {
	// Messages is the number of whole messages; of Import, of those that were imported.
	Messages int
	// Octets is the size of their bodies.
	Octets int64
	// Present is the number of messages that were in the queue already and were skipped.
	Present int
	// Damaged is the number of messages whose records are not as they were written, or are
	// missing, or have values that no queue accepts.
	Damaged int
	// Unreadable is the number of messages that were damaged in the exported store, and are
	// not in the file.
	Unreadable int
	// Complete reports whether the end of the file is there.
	Complete bool
	// Problems says where the damage is; the first twenty places.
	Problems []string
}

// Whole reports whether nothing that should be in the file is missing or damaged.
func (t Transfer) Whole() bool { return t.Complete && t.Damaged == 0 && len(t.Problems) == 0 }

func (t *Transfer) problem(format string, args ...any) {
	if len(t.Problems) < 20 {
		t.Problems = append(t.Problems, fmt.Sprintf(format, args...))
	}
}

// exportSink receives the messages of an export file. Each begin is followed by writes and
// by one commit or abort, unless it returned an error.
type exportSink interface {
	// begin returns errPresent for a message that is there already.
	begin(m *exportedMessage) error
	io.Writer
	commit() error
	abort()
}

var errPresent = errors.New("present already")

// CheckExport reads an export file to its end and returns what it contains. The error is
// one of reading, or ErrNoExport; damage is in the Transfer.
func CheckExport(r io.Reader) (Transfer, error) { return readExport(r, discard{}) }

type discard struct{}

func (discard) begin(*exportedMessage) error      { return nil }
func (discard) Write(content []byte) (int, error) { return len(content), nil }
func (discard) commit() error                     { return nil }
func (discard) abort()                            {}

// exportParser puts the messages of a file together from its records.
type exportParser struct {
	t      Transfer
	sink   exportSink
	open   *exportedMessage // the message whose body is being read
	sum    hash.Hash
	size   int64
	begun  bool // whether the sink has it
	intact int  // messages whose records were all as they were written
	last   *exportedLast
}

// readExport gives the messages of a file to sink. An error of sink ends it.
func readExport(r io.Reader, sink exportSink) (Transfer, error) {
	x, err := newExportReader(r)
	if err != nil {
		return Transfer{}, err
	}
	p := &exportParser{sink: sink, sum: sha256.New()}
	for err == nil {
		var kind byte
		var content []byte
		kind, content, err = x.next()
		switch {
		case errors.Is(err, errDamaged):
			if p.open != nil || kind == recordMessage || kind == 0 {
				p.damaged(err)
			} else {
				p.t.problem("%v", err)
			}
			err = nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			p.t.problem("the file is cut off at octet %d", x.at)
		case err == nil:
			err = p.record(kind, content)
		}
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		p.close()
		return p.t, err
	}
	if p.open != nil {
		p.damaged(errMissingEnd)
	}
	p.finish()
	return p.t, nil
}

var errMissingEnd = errors.New("its end is missing")

func (p *exportParser) finish() {
	if p.last == nil {
		if len(p.t.Problems) == 0 {
			p.t.problem("the end of the file is missing")
		}
		return
	}
	p.t.Complete = true
	p.t.Unreadable = p.last.Unreadable
	missing := p.last.Messages - p.intact
	if missing > p.t.Damaged {
		p.t.problem("%d messages are missing", missing-p.t.Damaged)
	}
	p.t.Damaged = max(missing, 0) // one message may be damaged in several places
}

func (p *exportParser) record(kind byte, content []byte) error {
	if p.last != nil {
		p.t.problem("there is more behind the end of the file")
		return io.EOF
	}
	if p.open != nil && (kind == recordMessage || kind == recordLast) {
		p.damaged(errMissingEnd)
	}
	switch kind {
	case recordMessage:
		return p.message(content)
	case recordBody:
		return p.body(content)
	case recordEnd:
		return p.end(content)
	}
	var last exportedLast
	if err := decode(content, &last); err != nil {
		p.t.problem("the end of the file: %v", err)
		return nil
	}
	p.last = &last
	return nil
}

func (p *exportParser) message(content []byte) error {
	m := new(exportedMessage)
	if err := decode(content, m); err != nil {
		p.damaged(err)
		return nil
	}
	if err := m.check(); err != nil {
		p.damaged(fmt.Errorf("message %s: %w", m.Envelope.ID, err))
		return nil
	}
	p.open, p.size = m, 0
	p.sum.Reset()
	p.sum.Write(content)
	switch err := p.sink.begin(m); {
	case errors.Is(err, errPresent):
	case err != nil:
		p.open = nil
		return err
	default:
		p.begun = true
	}
	return nil
}

func (p *exportParser) body(content []byte) error {
	if p.open == nil {
		return nil // it belongs to a damaged message
	}
	p.size += int64(len(content))
	p.sum.Write(content)
	if p.size > p.open.Envelope.Size {
		p.damaged(errors.New("its body is longer than its size says"))
		return nil
	}
	if !p.begun {
		return nil
	}
	_, err := p.sink.Write(content)
	return err
}

func (p *exportParser) end(content []byte) error {
	if p.open == nil {
		return nil
	}
	var end exportedEnd
	if err := decode(content, &end); err != nil {
		p.damaged(err)
		return nil
	}
	if end.LeftOut != "" {
		p.close()
		return nil
	}
	if p.size != p.open.Envelope.Size || !bytes.Equal(end.SHA256, p.sum.Sum(nil)) {
		p.damaged(errors.New("its body is not what was exported"))
		return nil
	}
	p.intact++
	size := p.size
	if !p.begun {
		p.t.Present++
		p.close()
		return nil
	}
	p.open, p.begun = nil, false
	if err := p.sink.commit(); err != nil {
		return err
	}
	p.t.Messages++
	p.t.Octets += size
	return nil
}

// damaged discards the message that is being read, or counts one that had not begun.
func (p *exportParser) damaged(err error) {
	p.t.Damaged++
	if p.open != nil {
		p.t.problem("message %s: %v", p.open.Envelope.ID, err)
	} else {
		p.t.problem("%v", err)
	}
	p.close()
}

func (p *exportParser) close() {
	if p.begun {
		p.sink.abort()
	}
	p.open, p.begun = nil, false
}

// latestID bounds the time that the ID of a message says, in milliseconds: all IDs after it are
// later, and there is an end. The clock that it comes from may have been ahead by years.
const latestID = 1 << 47

// check returns an error if no queue can hold the message. The file may come from
// elsewhere: nothing in it may break a session or the next start.
func (m *exportedMessage) check() error {
	e := &m.Envelope
	switch {
	case e.ID == ulid.Zero || e.ID.Time() >= latestID:
		return errors.New("its ID is none of a queue")
	case len(e.Recipients) == 0 || len(m.States) != len(e.Recipients):
		return fmt.Errorf("%d recipients and %d states", len(e.Recipients), len(m.States))
	case e.Kind > Report || e.Size < 0 || e.ReceivedAt.IsZero():
		return errors.New("its envelope is not one of a queue")
	}
	texts := []string{e.From, e.EnvID, e.Ret, e.MessageID}
	left := false
	for i, r := range e.Recipients {
		if r.Address == "" || r.Domain == "" {
			return fmt.Errorf("recipient %d has no address", i)
		}
		texts = append(append(texts, r.Address, r.Domain, r.ORcpt), r.Notify...)
		s := m.States[i].State
		if s.State != Queued && s.State != Delivered && s.State != Bounced || s.Attempts < 0 || s.Attempts > 1<<15 {
			return fmt.Errorf("recipient %d has no state of a queue", i)
		}
		left = left || s.State == Queued
	}
	if !left {
		return errors.New("all its recipients are at their end")
	}
	for _, s := range texts { // they become parts of commands
		if strings.ContainsFunc(s, unicode.IsControl) {
			return fmt.Errorf("control character in %q", s)
		}
	}
	return nil
}

// records returns the records of the message by group number, for the groups that were
// tried or whose sender was notified of a delay.
func (m *exportedMessage) records() map[int]groupRecord {
	records := make(map[int]groupRecord)
	for n, group := range split(m.Envelope.Recipients) {
		rec := groupRecord{Done: true}
		tried, notified := false, false
		for _, r := range group {
			s := &m.States[r]
			rec.States = append(rec.States, s.State)
			rec.Attempts = max(rec.Attempts, s.State.Attempts)
			tried = tried || s.State.Attempts > 0 || s.State.State != Queued
			notified = notified || s.State.Delayed
			if s.LastAttempt.After(rec.LastAttempt) {
				rec.LastAttempt = s.LastAttempt
			}
			if s.State.State == Queued {
				rec.Done = false
				if rec.NextAttempt.IsZero() || s.NextAttempt.Before(rec.NextAttempt) {
					rec.NextAttempt = s.NextAttempt
				}
			}
		}
		if tried {
			rec.Attempts = cmp.Or(rec.Attempts, 1)
		}
		if tried || notified {
			records[n] = rec
		}
	}
	return records
}
