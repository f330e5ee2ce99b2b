package ingress

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// BenchmarkStageDoor is the way of a message of 10 KiB from the connection into a queue in
// memory. The client sends octets that were made before, and allocates nothing.
//
//	go test -run - -bench StageDoor -benchmem ./relay/ingress
func BenchmarkStageDoor(b *testing.B) {
	content := "From: anna@sender.example\r\nTo: kurt@load.example\r\nSubject: load\r\nDate: Mon, 4 May 2026 12:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n" +
		strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<10/78)
	const envelope = "MAIL FROM:<anna@sender.example> SIZE=10400\r\nRCPT TO:<kurt@load.example>\r\n"
	b.Run("DATA", func(b *testing.B) {
		benchDoor(b, []byte(envelope+"DATA\r\n"), []byte(content+".\r\n"))
	})
	b.Run("BDAT", func(b *testing.B) {
		benchDoor(b, fmt.Appendf(nil, "%sBDAT %d LAST\r\n%s", envelope, len(content), content))
	})
}

// benchDoor sends a message in parts, each after the reply to the one before.
func benchDoor(b *testing.B, parts ...[]byte) {
	q, addr := benchServer(b)
	client, err := testnet.NewSource(addr)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	ask := func(part []byte, last string) {
		if err := client.Ask(part, last); err != nil {
			b.Fatal(err)
		}
	}
	send := func() {
		for _, part := range parts[:len(parts)-1] {
			ask(part, "354 ")
		}
		ask(parts[len(parts)-1], "250 2.0.0 queued")
	}
	const together = 200
	for range together {
		send()
	}
	deliver(b, q, together)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		send()
		if (i+1)%together == 0 { // the memory of their bodies is used again
			b.StopTimer()
			deliver(b, q, together)
			b.StartTimer()
		}
	}
	b.StopTimer()
	deliver(b, q, b.N%together)
}

// deliver takes n messages out of the queue.
func deliver(b *testing.B, q *queue.Queue, n int) {
	for range n {
		c, err := q.Claim(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if !c.Load() {
			b.Fatal("a message cannot be read")
		}
		q.Finish(c, queue.Outcome{Results: []queue.RecipientState{{State: queue.Delivered}}})
	}
}

// benchServer returns a queue in memory and the address of the server before it. The lines
// of the log are formatted, and thrown away.
func benchServer(b *testing.B) (q *queue.Queue, addr string) {
	var place memory.Place
	st := place.Open()
	q, err := queue.Open(queue.Options{Store: st, DomainLimit: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Options{
		Queue: q, Hostname: "relay.example.com", Listeners: []Listener{{Address: "127.0.0.1:0", TLS: "none", Allow: loopback}},
		Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), //nolint:sloglint // formatting is part of the cost
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		<-done
		q.Close()
		_ = st.Close()
	})
	return q, s.Addrs()[0].String()
}
