package dkim

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// benchHeader is the header of a mail from Exchange, as the relay signs it.
const benchHeader = "Received: from ex1.example.com (ex1.example.com [192.0.2.10])\r\n" +
	"\tby relay.example.com (stsrelay) with ESMTPS id 01KB3Z5J8Q7V4X2M9N6P0R1S3T\r\n\tfor <kurt@example.org>; Mon, 23 Nov 2026 12:00:00 +0000\r\n" +
	"Received: from EX1.example.com ([fe80::1]) by EX1.example.com ([fe80::1%4]) with\r\n mapi id 15.02.1544.011; Mon, 23 Nov 2026 12:00:00 +0000\r\n" +
	"From: Anna Example <anna@example.com>\r\nTo: Kurt Example <kurt@example.org>\r\nCC: Eva Example <eva@example.org>\r\nSubject: Re: Minutes of the meeting\r\n" +
	"Thread-Topic: Minutes of the meeting\r\nThread-Index: AdxYk2mF5Q0uJb0nTfWqv1m0wYQyHQAAX3bA\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n" +
	"Message-ID: <2b9f0c6d1e3a4f58a7c6b5d4e3f2a1b0@example.com>\r\nReferences: <a1b2c3d4e5f60718293a4b5c6d7e8f90@example.org>\r\n" +
	"In-Reply-To: <a1b2c3d4e5f60718293a4b5c6d7e8f90@example.org>\r\nAccept-Language: en-GB, de-DE\r\nContent-Language: en-GB\r\nX-MS-Has-Attach:\r\n" +
	"X-MS-TNEF-Correlator:\r\nContent-Type: text/plain; charset=\"utf-8\"\r\nContent-Transfer-Encoding: base64\r\nMIME-Version: 1.0\r\n\r\n"

// What a signature costs for a message of 10 KiB, beside the operation with the private key
// alone, which is the least that it can cost. The two are measured in turn, so that other
// work on the machine meets both. ns are the medians; "times" is how many times the operation with
// the key the whole costs.
func BenchmarkSign(b *testing.B) {
	bodies := map[string]string{
		"base64": strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<10/78),
		"text":   strings.Repeat("The  relay signs what it sends, word by word, line by line, day by day. \r\n", 10<<10/76),
	}
	for _, kind := range []string{RSA, Ed25519} {
		for _, form := range []string{"base64", "text"} {
			b.Run(kind+"/"+form, func(b *testing.B) { benchmarkSign(b, kind, []byte(benchHeader+bodies[form])) })
		}
	}
}

func benchmarkSign(b *testing.B, kind string, message []byte) {
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
	s := NewSigner(time.Now, &Key{Domain: "example.com", Selector: "a", Signer: key})
	var alone, whole []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		if _, err := key.Sign(rand.Reader, digest, hash); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
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
		alone, whole = append(alone, middle.Sub(start)), append(whole, time.Since(middle))
	}
	slices.Sort(alone)
	slices.Sort(whole)
	n := len(alone) / 2
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(alone[n]), "key-ns")
	b.ReportMetric(float64(whole[n]), "whole-ns")
	b.ReportMetric(float64(whole[n])/float64(alone[n]), "times")
}

// Signatures that are made at the same time, as by the sessions that bring in mail: with twice
// the processors (-cpu 1,2) there are twice as many.
func BenchmarkSignParallel(b *testing.B) {
	data, err := Generate(RSA)
	if err != nil {
		b.Fatal(err)
	}
	key, err := Parse(data)
	if err != nil {
		b.Fatal(err)
	}
	s := NewSigner(time.Now, &Key{Domain: "example.com", Selector: "a", Signer: key})
	message := []byte(benchHeader + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<10/78))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Sign("example.com", func(w io.Writer) error { _, err := w.Write(message); return err }); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
