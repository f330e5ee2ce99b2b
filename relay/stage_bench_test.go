package relay_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// stageBody is content of 10 KiB.
var stageBody = []byte("From: anna@sender.example\r\nTo: kurt@load.example\r\nSubject: load\r\nDate: Mon, 4 May 2026 12:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n" +
	strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<10/78))

// BenchmarkStageDelivery is the delivery of messages that are in a queue in memory, with its
// log, its history and the commit of its result: over an open session with a host that only
// reads and answers with fixed octets, for a domain whose policy and MX are known.
//
//	go test -run - -bench StageDelivery -benchmem ./relay
func BenchmarkStageDelivery(b *testing.B) {
	for _, way := range []string{"DATA", "BDAT"} {
		b.Run(way, func(b *testing.B) {
			w, host := newStage(b, way == "BDAT")
			var place memory.Place
			st := place.Open()
			b.Cleanup(func() { _ = st.Close() })
			q := w.Relay.DeliverFrom(b, st)
			const together = 200
			fill := func(n int) {
				if _, err := q.Pause(b.Context(), "", 0, "the benchmark"); err != nil {
					b.Fatal(err)
				}
				for range n {
					in, err := q.Begin()
					if err != nil {
						b.Fatal(err)
					}
					if _, err := in.Write(stageBody); err != nil {
						b.Fatal(err)
					}
					env := queue.Envelope{From: "anna@sender.example", Recipients: []queue.Recipient{{Address: "kurt@load.example", Domain: "load.example"}}, Client: "client.example [127.0.0.1]", MessageID: "<1@sender.example>"}
					if err := in.Commit(b.Context(), env); err != nil {
						b.Fatal(err)
					}
				}
			}
			deliver := func(n int) {
				taken := host.Messages()
				if _, err := q.Resume(b.Context(), ""); err != nil {
					b.Fatal(err)
				}
				host.Wait(taken + int64(n))
				for q.Active() > 0 {
					runtime.Gosched()
				}
			}
			fill(together)
			deliver(together)
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= together {
				n := min(left, together)
				b.StopTimer()
				fill(n)
				b.StartTimer()
				deliver(n)
			}
		})
	}
}

// BenchmarkStageAll is the whole way of one message after the other: from the client, whose
// octets were made before, to a host that only reads and answers with fixed octets. What the
// runtime counts is the relay's.
//
//	go test -run - -bench StageAll -benchmem ./relay
func BenchmarkStageAll(b *testing.B) {
	w, host := newStage(b, false)
	client, err := testnet.NewSource(w.Addr)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	ask := func(part []byte, last string) {
		if err := client.Ask(part, last); err != nil {
			b.Fatal(err)
		}
	}
	envelope, content := []byte("MAIL FROM:<anna@sender.example>\r\nRCPT TO:<kurt@load.example>\r\nDATA\r\n"), append(bytes.Clone(stageBody), ".\r\n"...)
	sent := int64(0)
	send := func() {
		ask(envelope, "354 ")
		ask(content, "250 2.0.0 queued")
		sent++
		host.Wait(sent)
	}
	for range 100 {
		send()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		send()
	}
}

// newStage is a relay that knows a domain, and its host. One session with it is open.
func newStage(b *testing.B, chunking bool) (*e2e.World, *testnet.Sink) {
	w := e2e.New(b, "concurrency = 1\n")
	host, err := w.AddSink("mx.load.example", chunking)
	if err != nil {
		b.Fatal(err)
	}
	w.Domain("load.example", testnet.Domain{MX: []string{host.Name}, Policy: e2e.PolicyFor("enforce", host.Name)})
	return w, host
}
