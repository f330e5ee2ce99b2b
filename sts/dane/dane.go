// Package dane is DANE for SMTP (RFC 6698, 7671, 7672): which TLSA records of
// a host can be used, and whether a certificate chain matches one of them.
//
// It looks nothing up and knows nothing of MTA-STS. Records come in from
// answers that a believed resolver has validated; what an insecure or a failed
// lookup means is decided by the caller.
package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Certificate usages (RFC 6698, 2.1.1). 0 and 1 are unusable for SMTP (RFC
// 7672, 3.1.3).
const (
	UsageTA uint8 = 2 // DANE-TA: a trust anchor
	UsageEE uint8 = 3 // DANE-EE: the host's own certificate
)

// Selectors (RFC 6698, 2.1.2) and matching types (2.1.3).
const (
	SelectorCert uint8 = 0
	SelectorSPKI uint8 = 1

	MatchFull   uint8 = 0
	MatchSHA256 uint8 = 1
	MatchSHA512 uint8 = 2
)

// Record is a TLSA record (RFC 6698, 2.1).
type Record struct {
	Usage, Selector, MatchingType uint8
	Data                          []byte
}

// String is the record as it is written in a zone and in reports, "3 1 1 <hex>".
func (r Record) String() string {
	return fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.MatchingType, hex.EncodeToString(r.Data))
}

// Usable reports whether the record can authenticate an SMTP server (RFC 7672,
// 3.1): usage 2 or 3, a known selector and matching type, data of the right
// form.
func (r Record) Usable() bool {
	if r.Usage != UsageTA && r.Usage != UsageEE || r.Selector > SelectorSPKI {
		return false
	}
	switch r.MatchingType {
	case MatchSHA256:
		return len(r.Data) == sha256.Size
	case MatchSHA512:
		return len(r.Data) == sha512.Size
	case MatchFull:
		if r.Selector == SelectorCert {
			_, err := x509.ParseCertificate(r.Data)
			return err == nil
		}
		_, err := x509.ParsePKIXPublicKey(r.Data)
		return err == nil
	}
	return false
}

// RRset is the validated TLSA records of one host.
type RRset struct {
	// Base is the TLSA base domain: the name of the host that the records are
	// of, SNI and first reference identifier (RFC 7672, 2.2.2).
	Base string
	// Records are all records, Usable those that can authenticate, with only
	// the strongest digest of each usage and selector left (RFC 7671, 9).
	Records []Record
	Usable  []Record

	last atomic.Pointer[verification]
}

// verification is a chain to a record of usage 2 that was verified, and the result. An
// attempt asks for it several times, and a host's owner can make it take half a second.
type verification struct {
	chain  []*x509.Certificate
	names  []string
	now    time.Time
	record Record
	err    error
}

// NewRRset sorts out the usable records.
func NewRRset(base string, records []Record) *RRset {
	set := &RRset{Base: base, Records: records}
	strongest := make(map[[2]uint8]uint8)
	for _, r := range records {
		if r.Usable() {
			k := [2]uint8{r.Usage, r.Selector}
			strongest[k] = max(strongest[k], r.MatchingType)
		}
	}
	for _, r := range records {
		// The numbers of the matching types are in order of strength; Full is
		// no digest and is never passed over.
		if r.Usable() && (r.MatchingType == MatchFull || r.MatchingType == strongest[[2]uint8{r.Usage, r.Selector}]) {
			set.Usable = append(set.Usable, r)
		}
	}
	return set
}

// ErrMismatch says that no usable record matches the chain.
var ErrMismatch = phrase.Errorf("no TLSA record matches the certificate")

// ErrNoCertificate says that the host showed none.
var ErrNoCertificate = phrase.Errorf("the host showed no certificate")

// Verify checks chain, leaf first, against the usable records and returns the
// record that matched. names are the reference identifiers for usage 2 (RFC
// 7672, 3.2.2); now is the date for usage 2. For usage 3 neither counts
// (3.1.1). The error wraps ErrMismatch or is the x509 error of the chain to a
// matching anchor.
func (s *RRset) Verify(chain []*x509.Certificate, names []string, now time.Time) (Record, error) {
	if len(chain) == 0 {
		return Record{}, ErrNoCertificate
	}
	for _, r := range s.Usable {
		if r.Usage == UsageEE && r.matches(chain[0]) {
			return r, nil
		}
	}
	if v := s.last.Load(); v != nil && v.now.Equal(now) && slices.Equal(v.chain, chain) && slices.Equal(v.names, names) {
		return v.record, v.err
	}
	v := &verification{chain: chain, names: names, now: now}
	if anchors := s.anchors(chain); len(anchors) == 0 {
		v.err = phrase.Errorf("%w (%d usable records)", ErrMismatch, len(s.Usable))
	} else {
		v.record, v.err = verifyChain(chain, anchors, names, now)
	}
	s.last.Store(v)
	return v.record, v.err
}

// matches reports whether the record is of cert.
func (r Record) matches(cert *x509.Certificate) bool {
	data := cert.Raw
	if r.Selector == SelectorSPKI {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch r.MatchingType {
	case MatchSHA256:
		sum := sha256.Sum256(data)
		return bytes.Equal(sum[:], r.Data)
	case MatchSHA512:
		sum := sha512.Sum512(data)
		return bytes.Equal(sum[:], r.Data)
	}
	return bytes.Equal(data, r.Data)
}
