// Package dkim signs mail (RFC 6376), by RSA and Ed25519 (RFC 8463): the keys, the
// records that must be published for them, the choice of the key, and the signatures.
// It does not verify; go-msgauth does, in relay/received and in the tests here.
//
// Signing streams: a message is written to a Signing once, and then sent with
// the fields that Close gives in front of it.
package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Key is a signing key and where its public half is published.
type Key struct {
	// Domain is the signing domain (d=), Selector the name below it (s=).
	Domain, Selector string
	Signer           crypto.Signer
}

// ErrNoKey is wrapped by the error of a domain that has no key.
var ErrNoKey = errors.New("no DKIM key")

// Load reads the key of a domain from a file, as ReadFile does.
func Load(domain, selector, file string) (*Key, error) {
	signer, err := ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("DKIM key %s: %w", file, err)
	}
	return &Key{Domain: domain, Selector: selector, Signer: signer}, nil
}

// ReadFile reads a key file: PEM with a PKCS#8 key, RSA or Ed25519, that receivers
// accept. The error says what is wrong with the file, and leaves its name to the caller.
func ReadFile(file string) (crypto.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return Parse(data)
}

// minBits is the shortest RSA key that receivers accept (RFC 8301, 3.2).
const minBits = 1024

// Parse reads a PKCS#8 key in PEM.
func Parse(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("is not in PEM form")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("is no PKCS#8 key: %w", err)
	}
	switch k := k.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < minBits {
			return nil, fmt.Errorf("is an RSA key of %d bits; receivers want %d at least, and 2048 is usual", k.N.BitLen(), minBits)
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, errors.New("must be an RSA or Ed25519 key")
}

// The kinds of Generate.
const (
	RSA     = "rsa" // 2048 bits
	Ed25519 = "ed25519"
)

// Generate makes a new key of a kind, in PEM.
func Generate(kind string) (pemData []byte, err error) {
	var k any
	switch kind {
	case RSA:
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, k, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("there is no kind of key %q; there are %q and %q", kind, RSA, Ed25519)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// RecordName is where the public key is published (RFC 6376, 3.6.2.1).
func (k *Key) RecordName() string { return k.Selector + "._domainkey." + k.Domain }

// Record is the TXT record to publish. services are what the key may sign
// (RFC 8460, 3: "tlsrpt"); none: everything.
func (k *Key) Record(services ...string) (string, error) {
	kind, public, err := k.public()
	if err != nil {
		return "", err
	}
	s := ""
	if len(services) > 0 {
		s = " s=" + strings.Join(services, ":") + ";"
	}
	return fmt.Sprintf("v=DKIM1; k=%s;%s p=%s", kind, s, public), nil
}

func (k *Key) public() (kind, public string, err error) {
	switch p := k.Signer.Public().(type) {
	case ed25519.PublicKey: // RFC 8463, 4
		return Ed25519, base64.StdEncoding.EncodeToString(p), nil
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(p)
		return RSA, base64.StdEncoding.EncodeToString(der), err
	}
	return "", "", fmt.Errorf("a key of type %T cannot be published", k.Signer.Public())
}

// CheckRecord compares a published record with what the key needs to sign for a
// service.
func (k *Key) CheckRecord(txt, service string) error {
	kind, public, err := k.public()
	if err != nil {
		return err
	}
	tags := make(map[string]string)
	for t := range strings.SplitSeq(txt, ";") {
		name, value, _ := strings.Cut(t, "=")
		tags[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
	}
	switch {
	case tags["v"] != "" && tags["v"] != "DKIM1":
		return fmt.Errorf("it is no DKIM key record (v=%s)", tags["v"])
	case tags["k"] != kind && (tags["k"] != "" || kind != RSA):
		return fmt.Errorf("it says k=%s, and the key is %s", tags["k"], kind)
	case tags["p"] != public:
		return errors.New("it holds another key (p= differs)")
	}
	if s, ok := tags["s"]; ok {
		for have := range strings.SplitSeq(s, ":") {
			if have == "*" || have == service {
				return nil
			}
		}
		return fmt.Errorf("it is not for this service: s=%s lacks %s", s, service)
	}
	return nil
}

// The services of a key's record (RFC 6376, 3.6.1; RFC 8460, 3).
const (
	ServiceReports = "tlsrpt"
	ServiceMail    = "email"
)

// Services are the services of a key's record for the kinds of mail that it signs,
// "reports" and "mail". A report is mail: a verifier that knows nothing of RFC 8460
// ignores a key that is not for mail, and the report has no signature then.
func Services(kinds []string) (out []string) {
	if slices.Contains(kinds, "reports") {
		out = append(out, ServiceReports)
	}
	if len(kinds) > 0 {
		out = append(out, ServiceMail)
	}
	return out
}

// Finding is a fault of a published record.
type Finding struct {
	// Text describes the fault; "": there is none.
	Text string
	// Works reports whether some receivers accept what the key signs all the same.
	Works bool
}

// Problem looks for a fault of the key's published record, for the kinds of mail that
// the key signs. lookup finds TXT records, none where there are none. Its error is
// returned as it is: the record is not known then.
func (k *Key) Problem(ctx context.Context, lookup func(ctx context.Context, name string) ([]string, error), kinds []string) (Finding, error) {
	records, err := lookup(ctx, k.RecordName())
	switch {
	case err != nil:
		return Finding{}, err
	case len(records) == 0:
		return Finding{Text: "it is not published yet"}, nil
	case len(records) > 1:
		return Finding{Text: fmt.Sprintf("there are %d TXT records at that name; there must be one", len(records))}, nil
	}
	for _, service := range Services(kinds) {
		switch err := k.CheckRecord(records[0], service); {
		case err == nil:
		case service == ServiceMail && !slices.Contains(kinds, "mail"):
			return Finding{Works: true, Text: "it says s=tlsrpt alone, and many receivers of reports take no notice of such a key: publish s=tlsrpt:email"}, nil
		default:
			return Finding{Text: "what is published does not fit: " + err.Error()}, nil
		}
	}
	return Finding{}, nil
}
