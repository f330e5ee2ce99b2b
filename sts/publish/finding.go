package publish

import (
	"slices"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Grade says how much a finding weighs.
type Grade string

// The grades, by weight.
const (
	// Fault: senders get a wrong policy or none, or will stop mail.
	Fault Grade = "fault"
	// Waiting: it is not done yet, and a person or time must do it.
	Waiting Grade = "waiting"
	// Advice: it works, and can be better.
	Advice Grade = "advice"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	// Code is a short word for it: "mx-not-covered", "id", "address", "caa",
	// "record-missing", "mx-not-there", "max-age", "tlsrpt".
	Code  string `json:"code"`
	Grade Grade  `json:"grade"`
	// Text says what is wrong, where, and how to mend it.
	Text phrase.Phrase `json:"text"`
}

// Sort brings findings into order, faults first.
func Sort(list []Finding) {
	order := []Grade{Fault, Waiting, Advice}
	slices.SortStableFunc(list, func(a, b Finding) int { return slices.Index(order, a.Grade) - slices.Index(order, b.Grade) })
}

// findings are those of one domain, whose name begins each; "" for none.
type findings struct {
	domain string
	list   []Finding
}

// add adds a finding.
func (f *findings) add(code string, g Grade, text phrase.Phrase) {
	if f.domain != "" {
		text = phrase.New("%s: %s", f.domain, text)
	}
	f.list = append(f.list, Finding{Code: code, Grade: g, Text: text})
}
