// Package phrase has texts for people that can still be told in another language after they
// were made: each is a format in English, and what fills it in. A text that stands in another
// one is translated with it, so errors keep what they wrap as parts.
//
// The tables german_*.go have the translations; a test finds every format, and fails where one
// has none.
package phrase

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Phrase is a text for people. The zero value is no text.
type Phrase struct {
	format string
	args   []any               // each a Phrase, words, a string or a number
	filter func(string) string // nil: none
}

// words are a text that is no literal of New. It is looked up as a whole.
type words string

// sayer is an error or another value that can be told as a phrase.
type sayer interface{ Phrase() Phrase }

// New returns the text that fmt.Sprintf makes of the same arguments. The format is a literal:
// it is the key of the translation. Arguments that are phrases, or errors with a method Phrase,
// are translated too; other texts are told as they are.
func New(format string, args ...any) Phrase {
	if false {
		_ = fmt.Sprintf(format, args...) // so that vet checks the calls
	}
	return compose(format, args)
}

// compose makes a phrase, and takes args over: sessions are judged for each message.
func compose(format string, args []any) Phrase {
	for i, a := range args {
		if _, ok := a.(string); !ok {
			args[i] = part(a)
		}
	}
	return Phrase{format: format, args: args}
}

// part returns an argument in one of the forms that a Phrase keeps.
func part(a any) any {
	switch a := a.(type) {
	case Phrase:
		return a
	case error:
		return Of(a)
	case sayer:
		return a.Phrase()
	case fmt.Stringer:
		return a.String()
	}
	if v := reflect.ValueOf(a); v.Kind() == reflect.String {
		return v.String()
	}
	return a
}

// Of returns the text of an error as a phrase; no text for nil.
func Of(err error) Phrase {
	switch e := err.(type) { //nolint:errorlint // the phrase of what err wraps would lack the words around it
	case nil:
		return Phrase{}
	case sayer:
		return e.Phrase()
	case interface{ Unwrap() []error }:
		if all := e.Unwrap(); len(all) > 0 && errors.Join(all...).Error() == err.Error() {
			parts := make([]Phrase, len(all))
			for i, one := range all {
				parts[i] = Of(one)
			}
			return Join(parts, "\n")
		}
	}
	return Text(err.Error())
}

// Text returns a text that stands in a table, and not at the call. It is translated as a whole.
func Text(english string) Phrase { return Phrase{format: "%s", args: []any{words(english)}} }

// Join returns phrases one after the other, with a separator between them.
func Join(parts []Phrase, separator string) Phrase {
	p := Phrase{format: strings.Repeat(separator+"%s", len(parts)), args: make([]any, len(parts))}
	p.format = strings.TrimPrefix(p.format, separator)
	for i, one := range parts {
		p.args[i] = one
	}
	return p
}

// IsZero reports whether p is no text.
func (p Phrase) IsZero() bool { return p.format == "" }

// String returns the text in English.
func (p Phrase) String() string { return p.told(p.format, p.args) }

// In returns the text in another language. translate returns the translation of a format, or of
// the text of an error, and what it does not know as it is.
func (p Phrase) In(translate func(english string) string) string {
	args := make([]any, len(p.args))
	for i, a := range p.args {
		switch a := a.(type) {
		case Phrase:
			args[i] = a.In(translate)
		case words:
			args[i] = translate(string(a))
		default:
			args[i] = a
		}
	}
	return p.told(translate(p.format), args)
}

// told returns the text of a format, which may be one of Errorf.
func (p Phrase) told(format string, args []any) string {
	text := fmt.Sprintf(strings.ReplaceAll(format, "%w", "%v"), args...)
	if p.filter != nil {
		return p.filter(text)
	}
	return text
}

// Filtered returns p with f applied to its text, in whatever language it is told.
func (p Phrase) Filtered(f func(string) string) Phrase {
	return Phrase{format: "%s", args: []any{p}, filter: f}
}

// MarshalText implements encoding.TextMarshaler: JSON has the text in English.
func (p Phrase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. What is read cannot be translated.
func (p *Phrase) UnmarshalText(text []byte) error {
	*p = Quote(string(text))
	return nil
}

// Quote returns a text of somebody else as it is; no text for "".
func Quote(text string) Phrase {
	if text == "" {
		return Phrase{}
	}
	return Phrase{format: "%s", args: []any{text}}
}
