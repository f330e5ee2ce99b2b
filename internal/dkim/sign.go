package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

// Signer signs with the keys of one or several domains.
type Signer struct {
	now  func() time.Time
	keys []*Key
}

// NewSigner returns a signer with these keys, whose signatures have the time of now. Of
// one domain there may be several keys, such as an RSA and an Ed25519 key: each makes a
// signature.
func NewSigner(now func() time.Time, keys ...*Key) *Signer { return &Signer{now, keys} }

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
	now    func() time.Time
	keys   []*Key
	header []byte       // until it is whole
	names  string       // of the signed fields, as h= has them
	fields []byte       // these fields, in relaxed form
	body   *relaxedBody // nil until the header is whole
	err    error
}

// Begin starts the signatures of a domain. The error wraps ErrNoKey where there
// is no key.
func (s *Signer) Begin(domain string) (*Signing, error) {
	keys := s.Keys(domain)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w of %s", ErrNoKey, domain)
	}
	return &Signing{now: s.now, keys: keys}, nil
}

// Write adds to the message, which has CRLF line ends. It never fails: what
// goes wrong is told by Close, and is no reason to stop the message.
func (s *Signing) Write(p []byte) (int, error) {
	n := len(p)
	if s.body == nil {
		p = s.addHeader(p)
	}
	if s.body != nil {
		s.body.write(p)
	}
	return n, nil
}

// addHeader adds p to the header, and returns what p has behind the end of the header.
func (s *Signing) addHeader(p []byte) (body []byte) {
	if s.err != nil {
		return nil
	}
	before := max(len(s.header)-3, 0)
	whole := p // a header that comes in one piece, as most do, is not copied
	if len(s.header) > 0 {
		s.header = append(s.header, p...)
		whole = s.header
	}
	end := bytes.Index(whole[before:], []byte("\r\n\r\n"))
	switch {
	case end >= 0:
		end += before
		names, fields := signed(whole[:end+2])
		s.names, s.fields = strings.Join(names, ":"), fields
		s.header = nil
		s.body = &relaxedBody{hash: sha256.New()}
		return whole[end+4:]
	case len(whole) > maxHeader:
		s.header, s.err = nil, errors.New("the header is too long to be signed")
	case len(s.header) == 0:
		s.header = bytes.Clone(p)
	}
	return nil
}

// signed are the names of the fields of a header to sign, and these fields in relaxed
// form. Each is signed as often as it is there, those of oversigned once more.
func signed(header []byte) (names []string, fields []byte) {
	known := slices.Concat(oversigned, headers)
	there, count := make([][][]byte, len(known)), make([]int, len(known))
	for field := range mailheader.Fields(header) {
		before, _, _ := bytes.Cut(field, []byte(":"))
		name := string(bytes.TrimRight(before, " \t"))
		if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) }); i >= 0 {
			there[i] = append(there[i], field)
			count[i]++
		}
	}
	sign := func(i int) {
		names = append(names, known[i])
		if last := len(there[i]) - 1; last >= 0 { // the last one first (RFC 6376, 5.4.2)
			fields = appendRelaxed(fields, there[i][last])
			there[i] = there[i][:last]
		}
	}
	for i := range oversigned {
		sign(i)
	}
	for i := range known {
		for range count[i] {
			sign(i)
		}
	}
	return names, fields
}

// appendRelaxed appends a field in relaxed form (RFC 6376, 3.4.2) to b.
func appendRelaxed(b, field []byte) []byte {
	name, value, _ := bytes.Cut(field, []byte(":"))
	for _, c := range bytes.TrimRight(name, " \t") {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	b = append(b, ':')
	start := len(b)
	for word := range bytes.FieldsFuncSeq(value, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }) {
		if len(b) > start {
			b = append(b, ' ')
		}
		b = append(b, word...)
	}
	return append(b, "\r\n"...)
}

// Close ends the message, makes the signatures, and returns the DKIM-Signature fields
// that go in front of it. A message that was cut off needs no Close.
func (s *Signing) Close() (fields []byte, err error) {
	err = s.err
	if s.body == nil && err == nil {
		err = errors.New("the message has no end of its header")
	}
	if err != nil {
		return nil, fmt.Errorf("sign by DKIM: %w", err)
	}
	s.body.end()
	bodyHash, now := base64.StdEncoding.EncodeToString(s.body.hash.Sum(nil)), s.now()
	for _, k := range s.keys {
		field, err := s.field(k, bodyHash, now)
		if err != nil {
			return nil, fmt.Errorf("sign by DKIM: key %s: %w", k.RecordName(), err)
		}
		fields = append(fields, field...)
	}
	return fields, nil
}

// lineLength is where the lines of a signature are folded, in octets.
const lineLength = 75

// field is the DKIM-Signature field of a key (RFC 6376, 3.5 and 3.7).
func (s *Signing) field(k *Key, bodyHash string, now time.Time) ([]byte, error) {
	algorithm, hash := "rsa-sha256", crypto.SHA256
	switch public := k.Signer.Public().(type) {
	case *rsa.PublicKey:
	case ed25519.PublicKey: // RFC 8463, 3: what is signed is the hash itself
		algorithm, hash = "ed25519-sha256", 0
	default:
		return nil, fmt.Errorf("a key of type %T cannot sign", public)
	}
	b := append(make([]byte, 0, 1024), fieldName...)
	line := len(b)
	for _, tag := range []struct{ name, value string }{
		{"a", algorithm}, {"bh", bodyHash}, {"c", "relaxed/relaxed"}, {"d", k.Domain}, {"h", s.names}, {"s", k.Selector},
		{"t", strconv.FormatInt(now.Unix(), 10)}, {"v", "1"},
	} {
		if len(b)-line+len(" =;")+len(tag.name)+len(tag.value) > lineLength {
			b = append(b, "\r\n"...)
			line = len(b)
		}
		b = append(append(append(append(append(b, ' '), tag.name...), '='), tag.value...), ';')
	}
	b = append(b, "\r\n b="...)

	signed := appendRelaxed(s.fields, b)
	digest := sha256.Sum256(bytes.TrimSuffix(signed, []byte("\r\n")))
	signature, err := k.Signer.Sign(rand.Reader, digest[:], hash)
	if err != nil {
		return nil, err
	}
	text, room := base64.StdEncoding.EncodeToString(signature), lineLength-len(" b=")
	for len(text) > room {
		b = append(append(b, text[:room]...), "\r\n "...)
		text, room = text[room:], lineLength
	}
	return append(append(b, text...), "\r\n"...), nil
}

// Sign signs the message that write writes, as the given domain, and returns
// the fields that go in front of it. The error wraps ErrNoKey where there is no
// key.
func (s *Signer) Sign(domain string, write func(io.Writer) error) (fields []byte, err error) {
	signing, err := s.Begin(domain)
	if err != nil {
		return nil, err
	}
	if err := write(signing); err != nil {
		return nil, err
	}
	return signing.Close()
}
