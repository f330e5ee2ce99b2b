package publish

import (
	"fmt"
	"slices"
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
	Text string `json:"text"`
	// German is Text in German. Only faults have it: the operator is told of these.
	German string `json:"-"`
}

// NewFault makes a fault of formats for the same arguments.
func NewFault(code, english, german string, args ...any) Finding {
	inGerman := slices.Clone(args)
	for i, a := range inGerman {
		if p, ok := a.(Phrase); ok {
			inGerman[i] = p.German
		}
	}
	return Finding{Code: code, Grade: Fault, Text: fmt.Sprintf(english, args...), German: fmt.Sprintf(german, inGerman...)}
}

// Phrase is an argument of NewFault that differs by language.
type Phrase struct{ English, German string }

// String is the English phrase.
func (p Phrase) String() string { return p.English }

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

func (f *findings) prefix() string {
	if f.domain == "" {
		return ""
	}
	return f.domain + ": "
}

func (f *findings) add(code string, g Grade, format string, args ...any) {
	f.list = append(f.list, Finding{Code: code, Grade: g, Text: f.prefix() + fmt.Sprintf(format, args...)})
}

func (f *findings) fault(code, english, german string, args ...any) {
	one := NewFault(code, english, german, args...)
	one.Text, one.German = f.prefix()+one.Text, f.prefix()+one.German
	f.list = append(f.list, one)
}
