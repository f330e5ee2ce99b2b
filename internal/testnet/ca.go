package testnet

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"sync/atomic"
	"time"
)

// CA is the certificate authority of the fake Internet: a trusted root with an
// intermediate, and another root that is not trusted.
type CA struct {
	now          func() time.Time
	serial       atomic.Int64
	root         authority
	intermediate authority
	unknown      authority
}

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// CertSpec describes a certificate. The zero value is a good one for the names that are
// asked for.
type CertSpec struct {
	// Names replaces the DNS names.
	Names []string
	// CNOnly puts the first name into the Common Name and no name elsewhere.
	CNOnly bool
	// Expired and NotYetValid shift its dates.
	Expired, NotYetValid bool
	// SelfSigned and UnknownCA leave the trusted authority out.
	SelfSigned, UnknownCA bool
	// Intermediate has it signed by the intermediate authority; NoChain sends
	// it without that one's certificate.
	Intermediate, NoChain bool
	// RSA makes an RSA key of 2,048 bits; NegativeSerial a serial number that Go
	// does not read unless it is told to.
	RSA, NegativeSerial bool
}

func newCA(now func() time.Time) (*CA, error) {
	ca := &CA{now: now}
	var err error
	if ca.root, err = ca.authority("testnet root", nil); err != nil {
		return nil, err
	}
	if ca.intermediate, err = ca.authority("testnet intermediate", &ca.root); err != nil {
		return nil, err
	}
	ca.unknown, err = ca.authority("a root that nobody trusts", nil)
	return ca, err
}

func (ca *CA) authority(name string, parent *authority) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: ca.now().AddDate(-5, 0, 0), NotAfter: ca.now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	self := authority{cert: t, key: key}
	if parent == nil {
		parent = &self
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent.cert, key.Public(), parent.key)
	if err != nil {
		return authority{}, err
	}
	self.cert, err = x509.ParseCertificate(der)
	return self, err
}

// Roots is a pool with the trusted root.
func (ca *CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.root.cert)
	return pool
}

// PEM is the trusted root in PEM form, for delivery.ca_file.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.root.cert.Raw})
}

// Issue makes a certificate for name.
func (ca *CA) Issue(name string, spec CertSpec) (tls.Certificate, error) {
	key, err := newKey(spec.RSA)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := ca.now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial.Add(1)), DNSNames: []string{name},
		NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 2, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if spec.NegativeSerial {
		t.SerialNumber = big.NewInt(positive)
	}
	if spec.Names != nil {
		t.DNSNames = spec.Names
	}
	t.Subject.CommonName = t.DNSNames[0]
	if spec.CNOnly {
		t.DNSNames = nil
	}
	if spec.Expired {
		t.NotAfter = now.Add(-time.Minute)
	}
	if spec.NotYetValid {
		t.NotBefore = now.Add(time.Hour)
	}
	signer := ca.root
	switch {
	case spec.SelfSigned:
		signer = authority{cert: t, key: key}
	case spec.UnknownCA:
		signer = ca.unknown
	case spec.Intermediate || spec.NoChain:
		signer = ca.intermediate
	}
	der, err := x509.CreateCertificate(rand.Reader, t, signer.cert, key.Public(), signer.key)
	if err == nil && spec.NegativeSerial {
		der, err = negate(der, signer.key)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if spec.Intermediate && !spec.NoChain {
		cert.Certificate = append(cert.Certificate, ca.intermediate.cert.Raw)
	}
	return cert, nil
}

func newKey(ofRSA bool) (crypto.Signer, error) {
	if ofRSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// positive is a serial number of one octet that negate makes negative.
const positive = 0x7b

// negate makes a certificate's serial number negative and signs it anew.
func negate(der []byte, key crypto.Signer) ([]byte, error) {
	var cert struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		return nil, err
	}
	tbs := cert.TBS.FullBytes
	tbs[bytes.Index(tbs, []byte{asn1.TagInteger, 1, positive})+2] |= 0x80
	hash := sha256.Sum256(tbs)
	signature, err := key.Sign(rand.Reader, hash[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	cert.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(cert)
}
