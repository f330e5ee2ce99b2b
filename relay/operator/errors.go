package operator

import (
	"errors"
	"net/http"
)

// Kind is what kind of error keeps the operator from what was asked for.
type Kind int

// The kinds of errors. An error without a kind is Internal.
const (
	Internal Kind = iota // the relay has failed
	Invalid              // what was asked for makes no sense
	NotFound             // it is not there
	Conflict             // the relay cannot do it as it is configured, or not now
	Rejected             // a file or a configuration is wrong
	Upstream             // another host did not give what was needed
)

// Error is an error whose kind is known.
type Error struct {
	Kind Kind
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without its kind.
func (e *Error) Unwrap() error { return e.Err }

// HTTPStatus returns the HTTP status for an error of this package.
func HTTPStatus(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		switch e.Kind {
		case Invalid:
			return http.StatusBadRequest
		case NotFound:
			return http.StatusNotFound
		case Conflict:
			return http.StatusConflict
		case Rejected:
			return http.StatusUnprocessableEntity
		case Upstream:
			return http.StatusBadGateway
		case Internal:
		}
	}
	return http.StatusInternalServerError
}

func failed(kind Kind, err error) error { return &Error{kind, err} }
