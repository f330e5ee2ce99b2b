package relay_test

import (
	"fmt"
	"io"
	"net/smtp"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Acceptance over real sockets, every 250 behind an fsync, beside the same
// number of plain fsynced appends to one file.
func BenchmarkAcceptance(b *testing.B) {
	const size = 10 << 10
	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78+1)[:size] + "\r\n"
	for _, sessions := range []int{1, 20} {
		b.Run(fmt.Sprintf("relay/sessions=%d", sessions), func(b *testing.B) {
			w := newWorld(b, "paused = true\n")
			b.ResetTimer()
			var wg sync.WaitGroup
			for s := range sessions {
				n := b.N / sessions
				if s < b.N%sessions {
					n++
				}
				wg.Go(func() {
					if err := feed(w.addr, n, body); err != nil {
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

// feed sends n messages, 50 a session.
func feed(addr string, n int, body string) error {
	for n > 0 {
		c, err := smtp.Dial(addr)
		if err != nil {
			return err
		}
		for range min(n, 50) {
			if err := feedOne(c, body); err != nil {
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

func feedOne(c *smtp.Client, body string) error {
	if err := c.Mail("anna@sender.example"); err != nil {
		return err
	}
	if err := c.Rcpt("kurt@load.example"); err != nil {
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
