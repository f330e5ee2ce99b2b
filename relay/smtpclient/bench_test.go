package smtpclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// BenchmarkStageWire is one message of 10 KiB over an open session with TLS 1.3, to a host that
// only reads, and answers with fixed octets.
//
//	go test -run - -bench StageWire -benchmem ./relay/smtpclient
func BenchmarkStageWire(b *testing.B) {
	body := []byte("Subject: load\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<10/78))
	for _, way := range []string{"DATA", "BDAT"} {
		b.Run(way, func(b *testing.B) {
			n, err := testnet.New(testnet.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(n.Close)
			host, err := n.AddSink("mx.load.example", way == "BDAT")
			if err != nil {
				b.Fatal(err)
			}
			c := openBench(b, n, host)
			t := Transaction{
				From: "anna@sender.example", Recipients: []Recipient{{Address: "kurt@load.example"}}, Size: int64(len(body)),
				Content: func() context.Context { return b.Context() },
			}
			r := bytes.NewReader(nil)
			send := func() {
				r.Reset(body)
				t.Body = r
				if out, err := c.Send(b.Context(), t); err != nil || !out.Final.OK() {
					b.Fatal(out, err)
				}
			}
			for range 10 {
				send()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				send()
			}
		})
	}
}

// openBench opens a session with TLS.
func openBench(b *testing.B, n *testnet.Net, host *testnet.Sink) *Client {
	conn, err := net.Dial("tcp", host.Addr())
	if err != nil {
		b.Fatal(err)
	}
	c, err := New(b.Context(), conn, Options{Name: "relay.example.com"})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.StartTLS(b.Context(), &tls.Config{ServerName: host.Name, RootCAs: n.CA.Roots()}); err != nil {
		b.Fatal(fmt.Errorf("STARTTLS: %w", err))
	}
	b.Cleanup(func() { c.Close() })
	return c
}
