package phrase

import "fmt"

// phrased is an error that can be told in another language.
type phrased struct {
	error
	phrase Phrase
}

// Phrase returns the text of the error.
func (e *phrased) Phrase() Phrase { return e.phrase }

// Unwrap returns the error of fmt, which wraps what it was given.
func (e *phrased) Unwrap() error { return e.error }

// Errorf is fmt.Errorf for an error that has a phrase. The format is a literal, as that of New.
func Errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...) // before compose changes args
	return &phrased{err, compose(format, args)}
}
