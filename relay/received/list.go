package received

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/tlsrpt/inbound"
)

// ErrNotFound is the error about an ID that no report and no mail has.
var ErrNotFound = phrase.Errorf("no report and no mail has this ID")

// List calls yield with the reports about the days since one, the oldest day first, until
// it returns false: those about a domain, "" for all.
func (a *Archive) List(ctx context.Context, domain, since string, yield func(*Record) bool) error {
	return scan(a, kindReport, since, func(_ []byte, r *Record) error {
		if domain == "" || r.Domain == domain {
			if !yield(r) {
				return store.Stop
			}
		}
		return ctx.Err()
	})
}

// Mails calls yield with the mails without a report that came since a day, the oldest
// first, until it returns false.
func (a *Archive) Mails(ctx context.Context, since string, yield func(*Mail) bool) error {
	return scan(a, kindMail, since, func(_ []byte, m *Mail) error {
		if !yield(m) {
			return store.Stop
		}
		return ctx.Err()
	})
}

// Intakes returns what came in on each day since one.
func (a *Archive) Intakes(ctx context.Context, since string) (out []Intake, err error) {
	err = scan(a, kindIntake, since, func(key []byte, i *Intake) error {
		i.Day, _ = dayOf(key)
		out = append(out, *i)
		return ctx.Err()
	})
	return out, err
}

// Shown is one report or mail with its content.
type Shown struct {
	Record *Record `json:"received,omitempty"`
	Mail   *Mail   `json:"mail,omitempty"`
	// Report is the report as it was read; nil where its original was too large to be
	// kept, and for a mail.
	Report *inbound.Report `json:"report,omitempty"`
	// Content is the content of a mail; it ends early where Mail.Whole is false.
	Content string `json:"content,omitempty"`
}

// Show returns a report, or a mail without one, by its ID or the beginning of it.
func (a *Archive) Show(ctx context.Context, id string) (*Shown, error) {
	if id == "" {
		return nil, ErrNotFound
	}
	var found []Shown
	var days []string
	err := scan(a, kindReport, "", func(key []byte, r *Record) error {
		if strings.HasPrefix(r.ID, id) {
			day, _ := dayOf(key)
			found, days = append(found, Shown{Record: r}), append(days, day)
		}
		return ctx.Err()
	})
	if err == nil {
		err = scan(a, kindMail, "", func(key []byte, m *Mail) error {
			if strings.HasPrefix(m.ID, id) {
				day, _ := dayOf(key)
				found, days = append(found, Shown{Mail: m}), append(days, day)
			}
			return ctx.Err()
		})
	}
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, ErrNotFound
	case len(found) > 1:
		return nil, phrase.Errorf("%w: %s is the beginning of %d", ErrNotFound, id, len(found))
	}
	shown := &found[0]
	if shown.Record != nil {
		return shown, a.readReport(shown, days[0])
	}
	whole, err := a.original(days[0], shown.Mail.ID)
	if err == nil {
		shown.Content, err = decompress(whole)
	}
	return shown, err
}

// readReport fills in the report as it was read.
func (a *Archive) readReport(s *Shown, day string) error {
	whole, err := a.original(day, s.Record.ID)
	if err != nil || len(whole) == 0 {
		return err
	}
	return inbound.Read(bytes.NewReader(whole), "", func(f inbound.Found) bool {
		s.Report = f.Report
		return false
	})
}

// decompress returns what gzip has compressed, as far as it was kept.
func decompress(whole []byte) (string, error) {
	z, err := gzip.NewReader(bytes.NewReader(whole))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(z, inbound.MaxSize))
	if errors.Is(err, io.ErrUnexpectedEOF) { // it was cut at the bound
		err = nil
	}
	return string(text), err
}
