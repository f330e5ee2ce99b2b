package relay_test

import (
	"fmt"
	"io"
	"net/smtp"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// Acceptance over real sockets, every 250 behind an fsync, beside the same
// number of plain fsynced appends to one file.
func BenchmarkAcceptance(b *testing.B) {
	const size = 10 << 10
	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78+1)[:size] + "\r\n"
	for _, sessions := range []int{1, 20} {
		b.Run(fmt.Sprintf("relay/sessions=%d", sessions), func(b *testing.B) {
			w := e2e.New(b, "paused = true\n")
			b.ResetTimer()
			var wg sync.WaitGroup
			for s := range sessions {
				n := b.N / sessions
				if s < b.N%sessions {
					n++
				}
				wg.Go(func() {
					if err := feed(w.Addr, n, body); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
	b.Run("append+fsync", func(b *testing.B) {
		f, err := os.Create(b.TempDir() + "/log")
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		start := time.Now()
		for range b.N {
			if _, err := f.WriteString(body); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "msg/s")
	})
}

// feed sends n messages to one recipient, feedTo to whom to says; 50 a session.
func feed(addr string, n int, body string) error {
	return feedTo(addr, n, body, func() string { return "kurt@load.example" })
}

func feedTo(addr string, n int, body string, to func() string) error {
	for n > 0 {
		c, err := smtp.Dial(addr)
		if err != nil {
			return err
		}
		for range min(n, 50) {
			if err := feedOne(c, to(), body); err != nil {
				return err
			}
			n--
		}
		if err := c.Quit(); err != nil {
			return err
		}
	}
	return nil
}

func feedOne(c *smtp.Client, to, body string) error {
	if err := c.Mail("anna@sender.example"); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	if err := c.Text.PrintfLine("DATA"); err != nil {
		return err
	}
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		return err
	}
	if _, err := io.WriteString(c.Text.W, "Subject: load\r\n\r\n"+body+".\r\n"); err != nil {
		return err
	}
	if err := c.Text.W.Flush(); err != nil {
		return err
	}
	_, _, err := c.Text.ReadResponse(250)
	return err
}

// The way of one message when nothing else is to do: from MAIL to its arrival at
// the host, over a session that is open already.
func BenchmarkOneMessage(b *testing.B) {
	w := e2e.New(b, "")
	h := w.Host("mx.load.example")
	w.Domain("load.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<10/78)
	c, err := smtp.Dial(w.Addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := feedOne(c, "kurt@load.example", body); err != nil {
			b.Fatal(err)
		}
		w.Received(h, len(took)+1)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
}

// The whole way: in over real sockets, out over verified TLS to hosts of
// domains that enforce it.
func BenchmarkEndToEnd(b *testing.B) {
	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<10/78)
	for _, tt := range []struct {
		name           string
		domains, hosts int
		faults         testnet.Faults
	}{
		{"domains=1/hosts=1", 1, 1, testnet.Faults{}},
		{"domains=1/hosts=1/chunking", 1, 1, testnet.Faults{With: []string{"CHUNKING"}}},
		{"domains=200/hosts=50", 200, 50, testnet.Faults{}},
		{"domains=1/hosts=1/50ms", 1, 1, testnet.Faults{Latency: 50 * time.Millisecond}},
		{"domains=1/hosts=1/50ms/chunking", 1, 1, testnet.Faults{Latency: 50 * time.Millisecond, With: []string{"CHUNKING"}}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			w := e2e.New(b, "")
			var hosts []*testnet.Host
			for i := range tt.hosts {
				h := w.Host(fmt.Sprintf("mx%d.load.example", i))
				h.Discard()
				if err := h.Set(tt.faults); err != nil {
					b.Fatal(err)
				}
				hosts = append(hosts, h)
			}
			for i := range tt.domains {
				h := hosts[i%len(hosts)]
				w.Domain(fmt.Sprintf("d%d.load.example", i), testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
			}
			b.ResetTimer()
			var wg sync.WaitGroup
			var next atomic.Int64
			for s := range 20 {
				n := b.N / 20
				if s < b.N%20 {
					n++
				}
				wg.Go(func() {
					if err := feedTo(w.Addr, n, body, func() string {
						return fmt.Sprintf("kurt@d%d.load.example", int(next.Add(1))%tt.domains)
					}); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accepted/s")
			delivered := func() (n, handshakes int64) {
				for _, h := range hosts {
					n += h.Counts().Messages
					handshakes += h.Counts().Handshakes
				}
				return n, handshakes
			}
			w.WaitFor("all messages to arrive", func(*queue.Queue) bool { n, _ := delivered(); return n >= int64(b.N) })
			_, handshakes := delivered()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
			b.ReportMetric(float64(handshakes), "handshakes")
		})
	}
}
