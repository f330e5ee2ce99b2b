package security

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// StartTLS is how far a session came towards TLS.
type StartTLS uint8

const (
	// NotOffered: the host's EHLO reply has no STARTTLS, or it knows HELO only.
	NotOffered StartTLS = iota
	// Refused: STARTTLS was answered with 4xx or 5xx.
	Refused
	// Broken: the handshake failed, or clear text came in behind the go-ahead.
	Broken
	// Established: the session is encrypted.
	Established
)

// String is the step in one word.
func (s StartTLS) String() string {
	return [...]string{NotOffered: "not-offered", Refused: "refused", Broken: "broken", Established: "established"}[s]
}

// Certificate is the verdict on a host's certificate.
type Certificate uint8

const (
	// Trusted: a chain to a trusted root, all of it in date.
	Trusted Certificate = iota
	// Untrusted: no such chain.
	Untrusted
	// Outdated: expired or not yet valid.
	Outdated
)

// Evidence is what one session proved. It is independent of any requirement.
type Evidence struct {
	// Host is the name that the session was opened for, the reference
	// identifier of its certificate.
	Host string
	// StartTLS is how far the session came towards TLS, and Failure the reason why it came
	// no further.
	StartTLS StartTLS
	Failure  phrase.Phrase
	// Version and Suite are as in crypto/tls, 0 where there is no TLS. Group is that
	// of the key exchange, 0 where it is RSA.
	Version uint16
	Suite   uint16
	Group   tls.CurveID
	// Chain is what the host showed, leaf first, and Fingerprint the SHA-256 of the whole
	// leaf in hexadecimal digits.
	Chain       []*x509.Certificate
	Fingerprint string
	// Certificate is the verdict on the chain. Where it is not Trusted, CertificateText
	// is the reason in words, "expired on …", and CertificateCode the reason in short.
	Certificate     Certificate
	CertificateText phrase.Phrase
	CertificateCode Code
	// NameMatches reports whether the certificate names Host (RFC 8461, 4.2): a DNS
	// name of the subject alternative names; the Common Name never counts.
	NameMatches bool
	// OffersRequireTLS reports whether the host offers REQUIRETLS after TLS.
	OffersRequireTLS bool
	// At is when the certificate was judged.
	At time.Time

	suite, cipher string // what SuiteName and Cipher return; "": not known yet
}

// TLSName is the version of TLS, "TLS 1.3", or "none".
func (e *Evidence) TLSName() string {
	if e.StartTLS != Established {
		return "none"
	}
	return tls.VersionName(e.Version)
}

// Observe fills in what a completed handshake proved about the host: version,
// cipher, and the verdicts on chain and name at the time now. They are made for
// resumed sessions too, with today's date. roots nil: the system's.
func (e *Evidence) Observe(cs tls.ConnectionState, roots *x509.CertPool, now time.Time) {
	e.StartTLS = Established
	e.Version, e.Suite, e.Group = cs.Version, cs.CipherSuite, cs.CurveID
	e.Chain = cs.PeerCertificates
	e.At = now
	e.suite, e.cipher = tls.CipherSuiteName(e.Suite), ""
	e.cipher = e.Cipher()
	if len(e.Chain) == 0 {
		e.Certificate, e.CertificateCode, e.CertificateText = Untrusted, CodeNoCertificate, phrase.New("was not shown")
		return
	}
	leaf := e.Chain[0]
	sum := sha256.Sum256(leaf.Raw)
	e.Fingerprint = hex.EncodeToString(sum[:])
	e.NameMatches = leaf.VerifyHostname(e.Host) == nil
	intermediates := x509.NewCertPool()
	for _, c := range e.Chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	e.Certificate, e.CertificateCode, e.CertificateText = classify(leaf, err, now)
}

// EndsSoon reports whether a certificate should have been renewed by now: a third of
// its life is left, 14 days at most and one at least. Certificates of 6 days are
// renewed every few days, those of 45 every month.
func EndsSoon(notBefore, notAfter, now time.Time) bool {
	const day = 24 * time.Hour
	left := min(max(notAfter.Sub(notBefore)/3, day), 14*day)
	return notAfter.Sub(now) < left
}

func classify(leaf *x509.Certificate, err error, now time.Time) (verdict Certificate, code Code, why phrase.Phrase) {
	if err == nil {
		return Trusted, "", phrase.Phrase{}
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			c := invalid.Cert
			if now.Before(c.NotBefore) {
				return Outdated, CodeNotYetValid, phrase.New("is valid only from %s UTC on", c.NotBefore.UTC().Format(time.DateTime))
			}
			return Outdated, CodeExpired, phrase.New("expired on %s UTC", c.NotAfter.UTC().Format(time.DateTime))
		}
		return Untrusted, CodeInvalidChain, phrase.New("has a chain that is not valid: %v", err)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if string(leaf.RawIssuer) == string(leaf.RawSubject) {
			return Untrusted, CodeSelfSigned, phrase.New("is self-signed")
		}
		return Untrusted, CodeUnknownAuthority, phrase.New("was issued by %q, which leads to no trusted authority (an intermediate certificate may be missing)", leaf.Issuer.String())
	}
	return Untrusted, CodeUntrusted, phrase.New("is not trusted: %v", err)
}

// GroupName is the group of the key exchange as people know it, "X25519MLKEM768"
// or "P-256"; "" where the key exchange is RSA.
func (e *Evidence) GroupName() string {
	if e.Group == 0 {
		return ""
	}
	return strings.Replace(e.Group.String(), "CurveP", "P-", 1)
}

// SuiteName is the name of the cipher suite. It is made once: crypto/tls makes all its suites
// to find a name.
func (e *Evidence) SuiteName() string {
	if e.suite != "" {
		return e.suite
	}
	return tls.CipherSuiteName(e.Suite)
}

// Cipher is version, cipher suite and group.
func (e *Evidence) Cipher() string {
	if e.cipher != "" {
		return e.cipher
	}
	c := e.TLSName() + ", " + e.SuiteName()
	if g := e.GroupName(); g != "" {
		c += ", " + g
	}
	return c
}

// encrypted is nil where the session is encrypted well enough for any demand:
// TLS 1.2 or later (RFC 8996) without RC4 (RFC 7465).
func (e *Evidence) encrypted(by Source) *Shortfall {
	switch {
	case e.StartTLS == NotOffered:
		return newShortfall(by, CodeNotOffered, phrase.New("%s does not offer STARTTLS", e.Host))
	case e.StartTLS == Refused:
		return newShortfall(by, CodeRefused, phrase.New("%s refused STARTTLS: %s", e.Host, e.Failure))
	case e.StartTLS == Broken:
		s := newShortfall(by, CodeHandshake, phrase.New("the TLS handshake with %s failed: %s", e.Host, e.Failure))
		s.Detail = e.Failure.String()
		return s
	case e.Version < tls.VersionTLS12:
		return newShortfall(by, CodeTLSVersion, phrase.New("%s speaks only %s", e.Host, tls.VersionName(e.Version)))
	case clienthello.WithRC4(e.Suite):
		return newShortfall(by, CodeWeakCipher, phrase.New("%s encrypts with RC4 only (%s)", e.Host, tls.CipherSuiteName(e.Suite)))
	}
	return nil
}

// verified is nil where the certificate is of a trusted authority, in date, and
// for the host. The session must be encrypted.
func (e *Evidence) verified(by Source) *Shortfall {
	if s := e.trusted(by); s != nil {
		return s
	}
	if !e.NameMatches {
		return newShortfall(by, CodeName, phrase.New("the certificate of %s is for %s", e.Host, certificateNames(e.Chain)))
	}
	return nil
}

// pinned is like verified, but compares with the names that the operator has pinned.
func (e *Evidence) pinned(by Source, names []string) *Shortfall {
	if s := e.trusted(by); s != nil {
		return s
	}
	if len(e.Chain) > 0 && slices.ContainsFunc(names, func(p string) bool { return MatchName(p, e.Chain[0]) }) {
		return nil
	}
	return newShortfall(by, CodeNameNotPinned, phrase.New("the certificate of %s is for %s, not for %s", e.Host, certificateNames(e.Chain), oneOf(names)))
}

// trusted is nil where the certificate is of a trusted authority, and in date.
func (e *Evidence) trusted(by Source) *Shortfall {
	if e.Certificate == Trusted {
		return nil
	}
	return newShortfall(by, e.CertificateCode, phrase.New("the certificate of %s %s", e.Host, e.CertificateText))
}

// MatchTLSA compares the chain of a session with the host's TLSA records, and
// returns the record that fits.
func (r *Requirement) MatchTLSA(e *Evidence) (dane.Record, error) {
	return r.TLSA.Verify(e.Chain, r.references(), e.At)
}

// references are the reference identifiers for TLSA usage 2 (RFC 7672, 3.2.2): the TLSA
// base domain; and the next-hop domain, also as the end of its aliases, where its MX
// records are protected from forgery.
func (r *Requirement) references() []string {
	names := []string{r.TLSA.Base}
	if r.MXSecure || r.Host == r.Domain {
		names = append(names, r.Domain)
	}
	if r.MXSecure && r.DomainAlias != "" {
		names = append(names, r.DomainAlias)
	}
	return names
}

// certificateNames lists the names of the leaf for people, three at most.
func certificateNames(chain []*x509.Certificate) phrase.Phrase {
	if len(chain) == 0 {
		return phrase.New("nothing")
	}
	names := chain[0].DNSNames
	if len(names) == 0 {
		return phrase.New("no DNS name (Common Name %q does not count)", chain[0].Subject.CommonName)
	}
	const shown = 3
	if len(names) > shown {
		return phrase.New("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
	}
	return phrase.Quote(strings.Join(names, ", "))
}

// oneOf lists names of which one is enough.
func oneOf(names []string) (all phrase.Phrase) {
	for i, n := range names {
		if i == 0 {
			all = phrase.Quote(n)
			continue
		}
		all = phrase.New("%s or %s", all, n)
	}
	return all
}

// Protection is how well a session was protected, in one word.
type Protection string

// The kinds of protection. They differ in what the host's certificate was compared with.
const (
	Clear     Protection = "none"      // no TLS
	Encrypted Protection = "encrypted" // by whoever answered: not verified
	Verified  Protection = "verified"  // a trusted authority or TLSA records, and the host's name, which the DNS may have been made to say
	ByMTASTS  Protection = "mta-sts"   // the same, and the host is named by the domain's policy
	ByDANE    Protection = "dane"      // the host's TLSA records, and nobody can have forged which host it is
)

// Describe returns how well a session is protected by a requirement: in words for logs
// and the display of the queue, "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, verified by MTA-STS
// (enforce)" or "none: mx.example.org refused STARTTLS: 454 …", and in one word.
func (r *Requirement) Describe(e *Evidence) (phrase.Phrase, Protection) {
	d, p := r.describe(e)
	if r.Override && (r.TLSA != nil || r.Policy != nil) {
		d = phrase.New("%s; the operator's rule overrides what the domain publishes", d)
	}
	return d, p
}

func (r *Requirement) describe(e *Evidence) (phrase.Phrase, Protection) {
	switch e.StartTLS {
	case NotOffered:
		return phrase.New("none"), Clear
	case Refused, Broken:
		return phrase.New("none: %s", e.encrypted(Opportunistic).Text), Clear
	}
	version := e.Cipher()
	if r.TLSA != nil && len(r.TLSA.Usable) > 0 {
		rec, err := r.MatchTLSA(e)
		match := fmt.Sprintf("%d %d %d %.4x…", rec.Usage, rec.Selector, rec.MatchingType, rec.Data)
		switch {
		case err == nil && r.HostAuthenticated():
			return phrase.New("%s, verified by DANE (%s)", version, match), ByDANE
		case err == nil:
			// RFC 7672, 2.2.1: this must not be told as secure delivery to the domain.
			return phrase.New("%s, the TLSA records of %s fit (%s), but its name comes from MX records that are not signed", version, r.Host, match), Verified
		}
		return phrase.New("%s, not verified: the TLSA records do not fit: %v", version, err), Encrypted
	}
	s := e.verified(Opportunistic)
	switch {
	case s == nil && r.Policy != nil && r.mxMismatch() == nil && e.encrypted(MTASTS) == nil:
		return phrase.New("%s, verified by MTA-STS (%s)", version, string(r.Policy.Mode)), ByMTASTS
	case s == nil:
		return phrase.New("%s, verified certificate", version), Verified
	case r.Level == Secure && e.pinned(Rule, r.Names) == nil:
		return phrase.New("%s, verified certificate for a name that the operator pinned", version), Verified
	}
	return phrase.New("%s, not verified: %s", version, s.Text), Encrypted
}
