package operator

import (
	"errors"
	"net/http"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// kind is what kind of error keeps the operator from what was asked for.
type kind int

// The kinds of errors. An error without a kind is internal.
const (
	internal kind = iota // the relay has failed
	invalid              // what was asked for makes no sense
	notFound             // it is not there
	conflict             // the relay cannot do it as it is configured, or not now
	rejected             // a file or a configuration is wrong
	upstream             // another host did not give what was needed
	tooMany              // it is asked for too often
)

// kindError is an error whose kind is known.
type kindError struct {
	kind kind
	err  error
}

// Error implements error.
func (e *kindError) Error() string { return e.err.Error() }

// Phrase is the text of the error.
func (e *kindError) Phrase() phrase.Phrase { return phrase.Of(e.err) }

// Unwrap returns the error without its kind.
func (e *kindError) Unwrap() error { return e.err }

// HTTPStatus returns the HTTP status for an error of this package.
func HTTPStatus(err error) int {
	if e, ok := errors.AsType[*kindError](err); ok {
		switch e.kind {
		case invalid:
			return http.StatusBadRequest
		case notFound:
			return http.StatusNotFound
		case conflict:
			return http.StatusConflict
		case rejected:
			return http.StatusUnprocessableEntity
		case upstream:
			return http.StatusBadGateway
		case tooMany:
			return http.StatusTooManyRequests
		case internal:
		}
	}
	return http.StatusInternalServerError
}

func failed(k kind, err error) error { return &kindError{k, err} }

// Invalid returns an error of a request that makes no sense.
func Invalid(err error) error { return failed(invalid, err) }
