package dnsclient

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
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

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s: ", e.Type, e.Name)
	switch {
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	case errors.Is(e.Kind, ErrNXDomain):
		b.WriteString("the name does not exist")
	case errors.Is(e.Kind, ErrNoData):
		b.WriteString("there is no such record")
	default:
		b.WriteString(dns.RcodeToString[e.Rcode])
	}
	if e.Server != "" {
		b.WriteString(" from " + e.Server)
	}
	if e.EDE != "" {
		b.WriteString(" (EDE " + e.EDE + ")")
	}
	return b.String()
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
