// Package dkim signs mail (RFC 6376), by RSA and Ed25519 (RFC 8463). The
// signature itself is go-msgauth's; here are the keys, the records that must be
// published for them, and the choice of the key.
//
// Signing streams: a message is written to a Signing once, and then sent with
// the fields that Close gives in front of it.
package dkim

import (
	"bytes"
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
	"io"
	"os"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
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

// Signer signs with the keys of one or several domains.
type Signer struct{ keys []*Key }

// NewSigner returns a signer with these keys. Of one domain there may be
// several, such as an RSA and an Ed25519 key: each makes a signature.
func NewSigner(keys ...*Key) *Signer { return &Signer{keys: keys} }

// Keys are those of a domain.
func (s *Signer) Keys(domain string) (out []*Key) {
	for _, k := range s.keys {
		if strings.EqualFold(k.Domain, domain) {
			out = append(out, k)
		}
	}
	return out
}

// oversigned are the fields that are signed once more than they are there, so that
// nobody can add one that the signature seems to cover (RFC 6376, 5.4.2 and 8.15):
// a program may show the second Subject, or read the body by the second
// Content-Type.
var oversigned = []string{"From", "Reply-To", "To", "Cc", "Subject", "Date", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}

// headers are the other fields that are signed where they are there (RFC 6376,
// 5.4.1).
var headers = []string{
	"Sender", "Message-ID", "In-Reply-To", "References", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post",
	"TLS-Report-Domain", "TLS-Report-Submitter", "TLS-Required", "Auto-Submitted",
}

// maxHeader bounds the header of a message that is signed.
const maxHeader = 1 << 20

// Signing is a message that is being signed.
type Signing struct {
	keys    []*Key
	header  []byte // until it is whole
	signers []*dkim.Signer
	err     error
}

// Begin starts the signatures of a domain. The error wraps ErrNoKey where there
// is no key. Close must follow.
func (s *Signer) Begin(domain string) (*Signing, error) {
	keys := s.Keys(domain)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w of %s", ErrNoKey, domain)
	}
	return &Signing{keys: keys}, nil
}

// Write adds to the message, which has CRLF line ends. It never fails: what
// goes wrong is told by Close, and is no reason to stop the message.
func (s *Signing) Write(p []byte) (int, error) {
	n := len(p)
	if s.signers == nil && s.err == nil {
		// Which fields there are must be known before they are signed.
		before := max(len(s.header)-3, 0)
		s.header = append(s.header, p...)
		end := bytes.Index(s.header[before:], []byte("\r\n\r\n"))
		switch {
		case end >= 0:
			s.err = s.start(s.header[:before+end+2])
		case len(s.header) > maxHeader:
			s.err = errors.New("the header is too long to be signed")
		}
		if s.signers == nil {
			return n, nil
		}
		p, s.header = s.header, nil
	}
	for _, w := range s.signers {
		if _, err := w.Write(p); err != nil && s.err == nil {
			s.err = err
		}
	}
	return n, nil
}

// start begins the signatures of a message with that header.
func (s *Signing) start(header []byte) error {
	for _, k := range s.keys {
		signer, err := dkim.NewSigner(&dkim.SignOptions{
			Domain: k.Domain, Selector: k.Selector, Signer: k.Signer, HeaderKeys: signed(header),
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
		})
		if err != nil {
			return fmt.Errorf("DKIM key %s: %w", k.RecordName(), err)
		}
		s.signers = append(s.signers, signer)
	}
	return nil
}

// signed lists the fields of a header to sign, each as often as it is there, and
// those of oversigned once more.
func signed(header []byte) []string {
	there := make(map[string]int)
	for line := range bytes.Lines(header) {
		if name, _, ok := bytes.Cut(line, []byte(":")); ok && line[0] != ' ' && line[0] != '\t' {
			there[strings.ToLower(string(bytes.TrimRight(name, " \t")))]++
		}
	}
	keys := slices.Clone(oversigned)
	for _, h := range slices.Concat(oversigned, headers) {
		for range there[strings.ToLower(h)] {
			keys = append(keys, h)
		}
	}
	return keys
}

// Close ends the message and returns the DKIM-Signature fields that go in front
// of it. After a message that was cut off its error is to be expected.
func (s *Signing) Close() (fields []byte, err error) {
	var b bytes.Buffer
	err = s.err
	if s.signers == nil && err == nil {
		err = errors.New("the message has no end of its header")
	}
	for _, w := range s.signers {
		if e := w.Close(); e != nil {
			err = errors.Join(err, e)
			continue
		}
		b.WriteString(w.Signature())
	}
	if err != nil {
		return nil, fmt.Errorf("sign by DKIM: %w", err)
	}
	return b.Bytes(), nil
}

// Sign signs the message that write writes, as the given domain, and returns
// the fields that go in front of it. The error wraps ErrNoKey where there is no
// key.
func (s *Signer) Sign(domain string, write func(io.Writer) error) (fields []byte, err error) {
	signing, err := s.Begin(domain)
	if err != nil {
		return nil, err
	}
	err = write(signing)
	fields, closeErr := signing.Close()
	if err != nil {
		return nil, err
	}
	return fields, closeErr
}
