// Package security decides whether a message may travel over a session.
//
// A Requirement is what is asked of one MX host for one recipient domain, with
// the source of each demand: the domain's MTA-STS policy (RFC 8461), the
// host's TLSA records (RFC 7672), a rule of the operator, REQUIRETLS (RFC
// 8689). An Evidence is what one session proved. Requirement.Judge compares the
// two; it is pure, and its answer is the only one there is: delivery, session
// reuse, retry, notices, reports, the queue's display and `stsrelay check` all
// read it.
//
// Demands are kept side by side and must all be met; none replaces another.
// The one exception is written in Judge: TLS that DANE has verified need not
// be verified by the certificate authorities too.
package security

import (
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// Source is the origin of a demand on a session.
type Source uint8

const (
	// Opportunistic asks for nothing: TLS is used where it is offered. It
	// stands for domains that publish no policy.
	Opportunistic Source = iota
	// MTASTS is the recipient domain's policy (RFC 8461).
	MTASTS
	// DANE is the MX host's TLSA records (RFC 7672).
	DANE
	// Plaintext is the operator's refusal to send anything in clear.
	Plaintext
	// Rule is the operator's rule for the domain.
	Rule
	// RequireTLS is the sender's REQUIRETLS (RFC 8689).
	RequireTLS
	// Password is the relay's own password for a next hop. It is not part of
	// Judge: only MaySendPassword asks for it.
	Password

	sources // their number
)

func (s Source) String() string { return s.Phrase().String() }

// Phrase is the name of the source.
func (s Source) Phrase() phrase.Phrase {
	switch s {
	case MTASTS:
		return phrase.Quote("MTA-STS")
	case DANE:
		return phrase.Quote("DANE")
	case Plaintext:
		return phrase.Quote(`delivery.plaintext = "refuse"`)
	case Rule:
		return phrase.New("the operator's rule")
	case RequireTLS:
		return phrase.Quote("REQUIRETLS")
	case Password:
		return phrase.New("the password for the next hop")
	}
	return phrase.New("opportunistic TLS")
}

// Level is what an operator's rule asks for.
type Level uint8

const (
	// NoLevel asks for nothing.
	NoLevel Level = iota
	// Encrypt asks for TLS with whatever certificate.
	Encrypt
	// Verify asks for TLS with a certificate of a trusted authority for the MX
	// host's name. It does not ask who has named the host.
	Verify
	// Secure asks for TLS with a certificate of a trusted authority for a name
	// that the operator has pinned, whatever the MX records say.
	Secure
	// VerifyDANE asks for usable TLSA records, a match, and a host that nobody can
	// have forged (RFC 7672, 2.2.1).
	VerifyDANE
)

// Requirement is what is asked of one host for mail of one domain. The zero
// value asks for nothing.
type Requirement struct {
	// Domain is the policy domain: the recipients' domain, or the next hop that
	// the operator set for it.
	Domain string
	// DomainAlias is the end of the aliases of Domain (CNAME), "" where it is none.
	DomainAlias string
	// Host is the name of the MX host, lower case without final dot.
	Host string
	// Policy is the domain's MTA-STS policy, nil where none is in force.
	Policy *sts.Policy
	// TLSA is the host's TLSA records, nil where DANE does not apply.
	TLSA *dane.RRset
	// RefusePlaintext reports whether the operator sends nothing in clear.
	RefusePlaintext bool
	// Level is what the operator's rule asks for.
	Level Level
	// Names are the patterns of the names that Secure accepts, see MatchName.
	Names []string
	// Override reports whether the operator's rule replaces what the domain publishes.
	// That is still judged and counted, but does not hold a message.
	Override bool
	// RequireTLS reports whether the message came with REQUIRETLS.
	RequireTLS bool
	// TLSOptional reports whether the sender waived TLS for this message
	// ("TLS-Required: No"), or it is a TLS report: published policies do not hold it.
	TLSOptional bool
	// MXSecure reports whether the choice of the host is protected from forgery: the MX
	// records were validated by DNSSEC, or the operator named the host.
	MXSecure bool
}

// Verdict is the result of comparing one source with one session.
type Verdict struct {
	Source Source
	// Binding reports whether the source may hold the message. A policy in mode
	// testing, or one that the operator overrides, is not binding.
	Binding bool
	// Shortfall is nil where the source is satisfied.
	Shortfall *Shortfall
}

// Satisfied returns nil where a message may travel over the session of e, else the
// *Shortfall of the first binding source that is not met.
func (r *Requirement) Satisfied(e *Evidence) error {
	var buf [sources]Verdict
	for _, v := range r.Judge(e, buf[:0]) {
		if v.Binding && v.Shortfall != nil {
			return v.Shortfall
		}
	}
	return nil
}

// Binding reports whether a source may hold a message that has no TLS.
func (r *Requirement) Binding() bool {
	return r.Satisfied(&Evidence{Host: r.Host}) != nil
}

// Flawless reports whether no source has a shortfall in the session, binding or not.
func (r *Requirement) Flawless(e *Evidence) bool {
	var buf [sources]Verdict
	for _, v := range r.Judge(e, buf[:0]) {
		if v.Shortfall != nil {
			return false
		}
	}
	return true
}

// Admits returns a *Shortfall where no session can meet the requirement: a host that an
// enforced policy does not name is passed over without a connection (RFC 8461, 4.1),
// and so is one that cannot meet an operator's demand for DANE.
func (r *Requirement) Admits() error {
	if r.Level == VerifyDANE {
		if s := r.admitsDANE(); s != nil {
			return s
		}
	}
	return r.AdmitsName()
}

// AdmitsName is Admits for the host's name alone, which is known before anything is
// looked up.
func (r *Requirement) AdmitsName() error {
	if s := r.mxMismatch(); s != nil && r.PublishedBinding() && r.Policy.Mode == sts.ModeEnforce {
		return s
	}
	return nil
}

// MaySendPassword returns a *Shortfall where the relay must not log in over the session
// of e. It does not depend on the message: a password that was sent to the wrong host is
// lost for all messages. The session must be encrypted, and the host must be verified
// under a name that is protected from forgery.
func (r *Requirement) MaySendPassword(e *Evidence) error {
	if s := r.judgePassword(e); s != nil {
		return s
	}
	return nil
}

func (r *Requirement) judgePassword(e *Evidence) *Shortfall {
	if s := e.encrypted(Password); s != nil {
		return s
	}
	if r.Level == Secure {
		return e.pinned(Password, r.Names)
	}
	if s := r.mxForgeable(Password); s != nil {
		return s
	}
	if r.TLSA != nil && len(r.TLSA.Usable) > 0 && r.judgeDANE(e) == nil {
		return nil
	}
	return e.verified(Password)
}

// Judge appends the verdicts of all sources that ask something to buf, and returns it.
// Published policies come first, in the order of the checks. Where there is none, the
// verdict of Opportunistic stands for them.
func (r *Requirement) Judge(e *Evidence, buf []Verdict) []Verdict {
	published := len(buf)
	daneHolds := false
	if r.TLSA != nil {
		v := Verdict{Source: DANE, Binding: r.PublishedBinding(), Shortfall: r.judgeDANE(e)}
		daneHolds = v.Shortfall == nil && len(r.TLSA.Usable) > 0
		if v.Shortfall == nil && !daneHolds {
			// TLS was all that could be asked; the records are at fault, which
			// is reported and holds nothing.
			v.Binding, v.Shortfall = false, r.unusableTLSA()
		}
		buf = append(buf, v)
	}
	if r.Policy != nil && r.Policy.Mode != sts.ModeNone {
		s := r.judgePolicy(e)
		binding := r.PublishedBinding() && r.Policy.Mode == sts.ModeEnforce
		if daneHolds && s != nil && s.Code != CodeMXMismatch {
			binding = false // verified already; still counted
		}
		buf = append(buf, Verdict{Source: MTASTS, Binding: binding, Shortfall: s})
	}
	if len(buf) == published {
		buf = append(buf, Verdict{Source: Opportunistic, Shortfall: e.encrypted(Opportunistic)})
	}
	if r.RefusePlaintext {
		buf = append(buf, Verdict{Source: Plaintext, Binding: true, Shortfall: e.encrypted(Plaintext)})
	}
	if r.Level != NoLevel {
		buf = append(buf, Verdict{Source: Rule, Binding: true, Shortfall: r.judgeLevel(e)})
	}
	if r.RequireTLS {
		buf = append(buf, Verdict{Source: RequireTLS, Binding: true, Shortfall: r.judgeRequireTLS(e, daneHolds)})
	}
	return buf
}

// PublishedBinding reports whether what the domain publishes may hold a message.
func (r *Requirement) PublishedBinding() bool {
	return !r.Override && (!r.TLSOptional || r.RequireTLS)
}

func (r *Requirement) mxMismatch() *Shortfall {
	if r.Policy == nil || r.Policy.Mode == sts.ModeNone {
		return nil
	}
	if _, ok := r.Policy.Match(r.Host); ok {
		return nil
	}
	return newShortfall(MTASTS, CodeMXMismatch, phrase.New("the policy of %s does not name %s", r.Domain, r.Host))
}

// judgePolicy is RFC 8461, 4.1 and 4.2: the MX name, then TLS, chain and name.
func (r *Requirement) judgePolicy(e *Evidence) *Shortfall {
	if s := r.mxMismatch(); s != nil {
		return s
	}
	if s := e.encrypted(MTASTS); s != nil {
		return s
	}
	return e.verified(MTASTS)
}

// judgeDANE is RFC 7672, 2.2: usable records demand TLS and a match, unusable
// ones TLS only.
func (r *Requirement) judgeDANE(e *Evidence) *Shortfall {
	if s := e.encrypted(DANE); s != nil {
		return s
	}
	if len(r.TLSA.Usable) == 0 {
		return nil
	}
	if _, err := r.MatchTLSA(e); err != nil {
		return newShortfall(DANE, CodeTLSAMismatch, phrase.New("the TLSA records of %s do not fit its certificate: %v", r.TLSA.Base, err))
	}
	return nil
}

func (r *Requirement) unusableTLSA() *Shortfall {
	return newShortfall(DANE, CodeNoUsableTLSA, phrase.New("none of the %d TLSA records of %s can be used", len(r.TLSA.Records), r.TLSA.Base))
}

// HostAuthenticated reports whether the choice of the host is protected from forgery: the
// MX records are signed, the operator has named the host, an enforced policy names it,
// which came over verified HTTPS, or it is the domain itself (RFC 7672, 2.2.1; RFC 8689,
// 4.2.1).
func (r *Requirement) HostAuthenticated() bool {
	enforced := r.Policy != nil && r.Policy.Mode == sts.ModeEnforce && r.mxMismatch() == nil
	return r.MXSecure || enforced || r.Host == r.Domain
}

func (r *Requirement) mxForgeable(by Source) *Shortfall {
	if r.HostAuthenticated() {
		return nil
	}
	return newShortfall(by, CodeMXNotAuthenticated, phrase.New("neither DNSSEC nor an enforced MTA-STS policy vouches that %s is a mail host of %s", r.Host, r.Domain))
}

// admitsDANE is nil where the host can meet an operator's demand for DANE.
func (r *Requirement) admitsDANE() *Shortfall {
	if r.TLSA != nil && len(r.TLSA.Usable) > 0 {
		return r.mxForgeable(Rule)
	}
	s := newShortfall(Rule, CodeNoUsableTLSA, phrase.New("%s has no usable TLSA records in a signed zone", r.Host))
	s.Type = failure.Rule.Row().Result
	return s
}

func (r *Requirement) judgeLevel(e *Evidence) *Shortfall {
	switch r.Level {
	case Encrypt:
		return e.encrypted(Rule)
	case Verify:
		if s := e.encrypted(Rule); s != nil {
			return s
		}
		return e.verified(Rule)
	case Secure:
		if s := e.encrypted(Rule); s != nil {
			return s
		}
		return e.pinned(Rule, r.Names)
	case VerifyDANE:
		if s := r.admitsDANE(); s != nil {
			return s
		}
		if s := r.judgeDANE(e); s != nil {
			by := *s
			by.Source = Rule
			return &by
		}
	}
	return nil
}

// judgeRequireTLS is RFC 8689, 4.2.1: the host's name is vouched for by a policy
// or by DNSSEC, the host is authenticated by DANE or by a trusted certificate,
// and it offers REQUIRETLS itself.
func (r *Requirement) judgeRequireTLS(e *Evidence, daneHolds bool) *Shortfall {
	if s := e.encrypted(RequireTLS); s != nil {
		return s
	}
	if s := r.mxForgeable(RequireTLS); s != nil {
		return s
	}
	if !daneHolds {
		if s := e.verified(RequireTLS); s != nil {
			return s
		}
	}
	if !e.OffersRequireTLS {
		return newShortfall(RequireTLS, CodeNoRequireTLS, phrase.New("%s does not offer REQUIRETLS", r.Host))
	}
	return nil
}
