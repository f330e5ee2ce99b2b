package sts

import "fmt"

// RemarkKind is what a Remark is about.
type RemarkKind string

// The kinds of remarks.
const (
	// RemarkContentType: the answer has no Content-Type.
	RemarkContentType RemarkKind = "content-type"
	// RemarkCompressed: the answer is compressed, which nobody asked for.
	RemarkCompressed RemarkKind = "compressed"
	// RemarkByteOrderMark: the text begins with one.
	RemarkByteOrderMark RemarkKind = "byte-order-mark"
	// RemarkIndented: there is white space before a key. The line counts.
	RemarkIndented RemarkKind = "indented"
	// RemarkRepeated: a key other than mx stands there twice.
	RemarkRepeated RemarkKind = "repeated"
	// RemarkMisspelt: a line looks like one of the policy's own, and does not
	// count.
	RemarkMisspelt RemarkKind = "misspelt"
	// RemarkUnknownKey: a key that RFC 8461 does not know.
	RemarkUnknownKey RemarkKind = "unknown-key"
	// RemarkBadMX: an mx that is no pattern, and does not count.
	RemarkBadMX RemarkKind = "bad-mx"
	// RemarkManyMX: there are more patterns than are applied.
	RemarkManyMX RemarkKind = "many-mx"
	// RemarkShortAge and RemarkLongAge: the max_age is less than a day, or more
	// than a year.
	RemarkShortAge RemarkKind = "short-max-age"
	RemarkLongAge  RemarkKind = "long-max-age"
)

// maxRemarks is how many texts of one kind are kept: a stranger's text may have
// ten thousand odd lines.
const maxRemarks = 5

// Remark is something about a policy or its host that is allowed, or tolerated,
// and that its owner should know.
type Remark struct {
	Kind RemarkKind
	// Texts are the first of this kind, five at most, and More is how many others
	// there were.
	Texts []string
	More  int
}

// Remarks are at most one of each kind, in the order in which the kinds came.
type Remarks []Remark

// Add takes up a remark.
func (r *Remarks) Add(kind RemarkKind, format string, args ...any) {
	for i := range *r {
		if old := &(*r)[i]; old.Kind != kind {
			continue
		} else if len(old.Texts) == maxRemarks {
			old.More++
		} else {
			old.Texts = append(old.Texts, fmt.Sprintf(format, args...))
		}
		return
	}
	*r = append(*r, Remark{Kind: kind, Texts: []string{fmt.Sprintf(format, args...)}})
}
