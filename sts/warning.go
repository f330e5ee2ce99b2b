package sts

import "github.com/stsrelay/stsrelay/internal/phrase"

// WarningCode is what a Warning is about.
type WarningCode string

// The codes of warnings.
const (
	// WarnContentType: the answer has no Content-Type.
	WarnContentType WarningCode = "content-type"
	// WarnCompressed: the answer is compressed, which nobody asked for.
	WarnCompressed WarningCode = "compressed"
	// WarnByteOrderMark: the text begins with one.
	WarnByteOrderMark WarningCode = "byte-order-mark"
	// WarnIndented: there is white space before a key. The line counts.
	WarnIndented WarningCode = "indented"
	// WarnRepeated: a key other than mx stands there twice.
	WarnRepeated WarningCode = "repeated"
	// WarnMisspelt: a line looks like one of the policy's own, and does not
	// count.
	WarnMisspelt WarningCode = "misspelt"
	// WarnUnknownKey: a key that RFC 8461 does not know.
	WarnUnknownKey WarningCode = "unknown-key"
	// WarnBadMX: an mx that is no pattern, and does not count.
	WarnBadMX WarningCode = "bad-mx"
	// WarnManyMX: there are more patterns than are applied.
	WarnManyMX WarningCode = "many-mx"
	// WarnShortAge and WarnLongAge: the max_age is less than a day, or more
	// than a year.
	WarnShortAge WarningCode = "short-max-age"
	WarnLongAge  WarningCode = "long-max-age"
)

// maxWarnings is how many texts of one code are kept: a stranger's text may have
// ten thousand odd lines.
const maxWarnings = 5

// Warning is something about a policy or its host that is allowed, or tolerated,
// and that its owner should know.
type Warning struct {
	Code WarningCode
	// Texts are the first ones, five at most, and More is the number of the others.
	Texts []phrase.Phrase
	More  int
}

// Warnings are at most one of each code, in the order in which the codes came.
type Warnings []Warning

// Add adds a warning.
func (w *Warnings) Add(code WarningCode, text phrase.Phrase) {
	for i := range *w {
		if old := &(*w)[i]; old.Code != code {
			continue
		} else if len(old.Texts) == maxWarnings {
			old.More++
		} else {
			old.Texts = append(old.Texts, text)
		}
		return
	}
	*w = append(*w, Warning{Code: code, Texts: []phrase.Phrase{text}})
}
