package dane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// The owner of a zone chooses the keys in its TLSA records, and how many there are, and the
// host's owner how long its chain is. A signature by the largest key that a record can hold
// takes a minute to check.
const (
	// maxRSABits is the largest RSA key that counts: a handshake takes no larger ones.
	maxRSABits = 16384
	// maxChecks is how many signatures are checked with keys in records.
	maxChecks = 20
)

// anchor is a trust anchor with the record that names it.
type anchor struct {
	cert   *x509.Certificate
	record Record
}

// anchors are the trust anchors that the usable records of usage 2 name (RFC 7671, 5.2):
// certificates of the chain that match, and the certificates in the records themselves.
func (s *RRset) anchors(chain []*x509.Certificate) (all []anchor) {
	checks := maxChecks
	for _, r := range s.Usable {
		if r.Usage != UsageTA {
			continue
		}
		before := len(all)
		for _, c := range chain {
			if r.matches(c) {
				all = append(all, anchor{c, r})
			}
		}
		if r.MatchingType != MatchFull || len(all) > before {
			continue
		}
		if r.Selector == SelectorCert {
			if c, err := x509.ParseCertificate(r.Data); err == nil && !tooLarge(c.PublicKey) {
				all = append(all, anchor{c, r})
			}
		} else if c := r.signedByKey(chain, &checks); c != nil {
			all = append(all, anchor{c, r})
		}
	}
	return all
}

// signedByKey handles "2 1 0": the record holds the anchor's key, and the anchor itself need
// not be in the chain (RFC 7671, 5.2.3). What it has signed is as good as the anchor.
func (r Record) signedByKey(chain []*x509.Certificate, checks *int) *x509.Certificate {
	key, err := x509.ParsePKIXPublicKey(r.Data)
	if err != nil || tooLarge(key) {
		return nil
	}
	issuer := &x509.Certificate{PublicKey: key, PublicKeyAlgorithm: keyAlgorithm(key)}
	for _, c := range chain {
		if *checks--; *checks < 0 {
			return nil
		}
		if issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return c
		}
	}
	return nil
}

func tooLarge(key crypto.PublicKey) bool {
	k, ok := key.(*rsa.PublicKey)
	return ok && k.N.BitLen() > maxRSABits
}

// verifyChain checks that the chain leads to one of the anchors, and that its leaf is for
// one of the names. It returns the record of the anchor.
func verifyChain(chain []*x509.Certificate, anchors []anchor, names []string, now time.Time) (Record, error) {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, a := range anchors {
		roots.AddCert(a.cert)
	}
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return Record{}, err
	}
	if !slices.ContainsFunc(names, func(n string) bool { return verifyName(chain[0], n) == nil }) {
		return Record{}, verifyName(chain[0], names[0]) // the host's own name tells the most
	}
	root := paths[0][len(paths[0])-1]
	i := slices.IndexFunc(anchors, func(a anchor) bool { return a.cert.Equal(root) })
	return anchors[i].record, nil
}

// verifyName checks a reference identifier of usage 2. Unlike MTA-STS, DANE
// looks at the Common Name where a certificate has no DNS name at all (RFC
// 7672, 3.2.3).
func verifyName(cert *x509.Certificate, name string) error {
	err := cert.VerifyHostname(name)
	if err != nil && len(cert.DNSNames) == 0 && strings.EqualFold(cert.Subject.CommonName, name) {
		return nil
	}
	return err
}

func keyAlgorithm(key crypto.PublicKey) x509.PublicKeyAlgorithm {
	switch key.(type) {
	case *rsa.PublicKey:
		return x509.RSA
	case *ecdsa.PublicKey:
		return x509.ECDSA
	case ed25519.PublicKey:
		return x509.Ed25519
	}
	return x509.UnknownPublicKeyAlgorithm
}
