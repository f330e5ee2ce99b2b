package dkim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

const message = "From: <a@example.com>\r\nTo: b@example.org\r\nSubject: a\r\n folded  subject\r\nTLS-Report-Domain: example.org\r\n\r\nHello \r\n\r\nworld\r\n\r\n\r\n"

func newKey(t *testing.T, kind, domain, selector string) *Key {
	t.Helper()
	data, err := Generate(kind)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Load(domain, selector, file)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func record(t *testing.T, k *Key, services ...string) string {
	t.Helper()
	r, err := k.Record(services...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// verify checks signatures with the keys that are published.
func verify(t *testing.T, signed string, keys ...*Key) []*dkim.Verification {
	t.Helper()
	v, err := dkim.VerifyWithOptions(strings.NewReader(signed), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		for _, k := range keys {
			if k.RecordName() == strings.TrimSuffix(name, ".") {
				return []string{record(t, k, "tlsrpt", "email")}, nil
			}
		}
		return nil, fmt.Errorf("no record at %s", name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEveryKeyOfTheDomainSigns(t *testing.T) {
	rsa, ed := newKey(t, RSA, "example.com", "r1"), newKey(t, Ed25519, "Example.com", "e1")
	other := newKey(t, Ed25519, "example.net", "e1")
	s := NewSigner(func() time.Time { return time.Unix(1_780_000_000, 0) }, rsa, other, ed)
	fields, err := s.Sign("example.com", func(w io.Writer) error {
		for _, part := range []string{message[:10], message[10:70], message[70:]} { // it streams
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(fields), " t=1780000000;") != 2 || strings.Contains(string(fields), "x=") {
		t.Errorf("the time of the signer's clock is not in %s", fields)
	}
	if strings.Contains(string(fields), "l=") {
		t.Errorf("a length stands in %s", fields)
	}
	if strings.Count(string(fields), "h=From:Reply-To:To:Cc:Subject:Date:MIME-Version:Content-Type:Content-Transfer-Encoding:From:To:Subject:TLS-Report-Domain;") != 2 {
		t.Errorf("fields that are signed: %s", fields)
	}
	signed := string(fields) + message
	good := verify(t, signed, rsa, ed, other)
	if len(good) != 2 {
		t.Fatalf("%d signatures, want 2", len(good))
	}
	for _, v := range good {
		if v.Err != nil || !strings.EqualFold(v.Domain, "example.com") {
			t.Errorf("%s: %v", v.Domain, v.Err)
		}
	}
	for name, spoiled := range map[string]string{
		"body":          strings.Replace(signed, "world", "w0rld", 1),
		"field":         strings.Replace(signed, "TLS-Report-Domain: example.org", "TLS-Report-Domain: example.net", 1),
		"a second From": strings.Replace(signed, "From: ", "From: <x@example.net>\r\nFrom: ", 1),
	} {
		for _, v := range verify(t, spoiled, rsa, ed) {
			if v.Err == nil {
				t.Errorf("%s changed, and the signature of %s holds", name, v.Domain)
			}
		}
	}
}

func TestWithoutAKeyNothingIsSigned(t *testing.T) {
	s := NewSigner(time.Now, newKey(t, Ed25519, "example.net", "e1"))
	if _, err := s.Sign("example.com", func(io.Writer) error { return nil }); !errors.Is(err, ErrNoKey) {
		t.Errorf("error %v", err)
	}
	for name, message := range map[string]string{
		"no end of the header": "From: a@example.net\r\n",
		"an endless header":    "From: a@example.net\r\n" + strings.Repeat("X: y\r\n", maxHeader/5),
	} {
		signing, err := s.Begin("example.net")
		if err != nil {
			t.Fatal(err)
		}
		for c := range strings.SplitAfterSeq(message, "\n") {
			if n, err := io.WriteString(signing, c); n != len(c) || err != nil {
				t.Fatalf("%s: a message must not be stopped: %d, %v", name, n, err)
			}
		}
		if fields, err := signing.Close(); err == nil {
			t.Errorf("%s: signed as %s", name, fields)
		}
	}
	broken := errors.New("broken")
	if _, err := s.Sign("example.net", func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestCheckRecord(t *testing.T) {
	k, r := newKey(t, Ed25519, "example.com", "e1"), newKey(t, RSA, "example.com", "r1")
	good := record(t, k, "tlsrpt")
	for _, tt := range []struct {
		key  *Key
		txt  string
		want string // part of the error
	}{
		{k, good, ""},
		{k, record(t, k), ""},
		{k, record(t, k, "tlsrpt", "email"), ""},
		{k, record(t, k, "*"), ""},
		{k, strings.ReplaceAll(good, "p=", "p= \t"), ""},
		{k, strings.TrimPrefix(good, "v=DKIM1; "), ""},
		{r, strings.Replace(record(t, r, "tlsrpt"), "k=rsa; ", "", 1), ""},
		{k, strings.Replace(good, "k=ed25519; ", "", 1), "k="},
		{k, record(t, k, "email"), "not for this service"},
		{k, record(t, newKey(t, Ed25519, "example.com", "e1"), "tlsrpt"), "another key"},
		{k, record(t, r, "tlsrpt"), "k=rsa"},
		{k, "v=spf1 -all", "no DKIM key record"},
		{k, "v=DKIM1; k=ed25519; p=", "another key"},
	} {
		err := tt.key.CheckRecord(tt.txt, "tlsrpt")
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.txt, err, tt.want)
		}
	}
}

func TestParseRefusesOtherFiles(t *testing.T) {
	for name, data := range map[string]string{"no PEM": "hello", "no key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := Parse([]byte(data)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for file, want := range map[string]string{
		"rsa768.pem": "is an RSA key of 768 bits", "rsa1023.pem": "is an RSA key of 1023 bits", "p256.pem": "must be an RSA or Ed25519 key",
		"pkcs1.pem": "is no PKCS#8 key", "nowhere.pem": "cannot be read", "rsa1024.pem": "",
	} {
		_, err := Load("a.example", "s", "testdata/"+file)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "DKIM key testdata/"+file+": "+want)) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	if _, err := Generate("dsa"); err == nil {
		t.Error("a key of an unknown kind was made")
	}
}
