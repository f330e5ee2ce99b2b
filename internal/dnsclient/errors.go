package dnsclient

import (
	"errors"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// The kinds of an *Error, for errors.Is.
var (
	// ErrNXDomain: the name does not exist.
	ErrNXDomain = errors.New("no such name")
	// ErrNoData: the name exists and has no record of the type.
	ErrNoData = errors.New("no such record")
	// ErrTemporary: there is no answer now: SERVFAIL, REFUSED, a timeout, an
	// answer that makes no sense. It is not known whether the name exists.
	ErrTemporary = errors.New("no answer")
)

// Error is a lookup without records.
type Error struct {
	// Name and Type are the question's, "example.com" and "MX".
	Name, Type string
	// Kind is ErrNXDomain, ErrNoData or ErrTemporary.
	Kind error
	// Rcode is the response code of the answer, 0 where there was none.
	Rcode int
	// EDE is the extended error (RFC 8914), "6 (DNSSEC Bogus): …", or "".
	EDE string
	// Server was asked last.
	Server string
	// Secure reports whether the denial was validated.
	Secure bool
	// Err is the cause where there was no answer.
	Err error

	bogus bool
}

func (e *Error) Error() string { return e.Phrase().String() }

// Phrase is the text of the error.
func (e *Error) Phrase() phrase.Phrase {
	what := phrase.Quote(dns.RcodeToString[e.Rcode])
	switch {
	case e.Err != nil:
		what = phrase.Of(e.Err)
	case errors.Is(e.Kind, ErrNXDomain):
		what = phrase.New("the name does not exist")
	case errors.Is(e.Kind, ErrNoData):
		what = phrase.New("there is no such record")
	}
	p := phrase.New("%s of %s: %s", e.Type, e.Name, what)
	if e.Server != "" {
		p = phrase.New("%s from %s", p, e.Server)
	}
	if e.EDE != "" {
		p = phrase.New("%s (EDE %s)", p, e.EDE)
	}
	return p
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err != nil {
		return []error{e.Kind, e.Err}
	}
	return []error{e.Kind}
}

// IsNotFound reports whether err says that a name, or a record of the type, does not
// exist: that is an answer. Where there is no answer now, it is false.
func IsNotFound(err error) bool { return errors.Is(err, ErrNXDomain) || errors.Is(err, ErrNoData) }

func isTemporary(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == ErrTemporary //nolint:errorlint // a kind wraps nothing, and errors.Is would make a list
}

func isSecureDenial(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Secure
}

// worse returns the error that counts for a host without an address of either family: no
// answer before no record before no name.
func worse(a, b error) error {
	for _, kind := range []error{ErrTemporary, ErrNoData, ErrNXDomain} {
		for _, e := range []error{a, b} {
			if errors.Is(e, kind) {
				return e
			}
		}
	}
	return a
}
