package dkim

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
)

// What a signature costs for a message of 10 KiB, beside the operation with the private key
// alone, which is the least that it can cost.
func BenchmarkSign(b *testing.B) {
	message := []byte("From: anna@example.com\r\nTo: kurt@example.org\r\nSubject: Hello\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<10/78))
	for _, kind := range []string{RSA, Ed25519} {
		b.Run(kind+"/alone", func(b *testing.B) {
			pem, err := Generate(kind)
			if err != nil {
				b.Fatal(err)
			}
			key, err := Parse(pem)
			if err != nil {
				b.Fatal(err)
			}
			digest, hash := make([]byte, sha256.Size), crypto.SHA256
			if kind == Ed25519 {
				hash = 0 // RFC 8463: what is signed is the hash itself
			}
			for b.Loop() {
				if _, err := key.Sign(rand.Reader, digest, hash); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(kind, func(b *testing.B) {
			pem, err := Generate(kind)
			if err != nil {
				b.Fatal(err)
			}
			key, err := Parse(pem)
			if err != nil {
				b.Fatal(err)
			}
			s := NewSigner(&Key{Domain: "example.com", Selector: "a", Signer: key})
			b.SetBytes(int64(len(message)))
			for b.Loop() {
				signing, err := s.Begin("example.com")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := signing.Write(message); err != nil {
					b.Fatal(err)
				}
				if _, err := signing.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
