// Command sessionbench measures how many SMTP sessions a second servers take, one
// after the other in one run: in clear and with STARTTLS, with no message and
// with one. beside-postfix starts this relay and Debian's Postfix for it.
//
//	go run ./internal/bench/sessionbench -workers 20 -time 5s stsrelay=127.0.0.1:2525 postfix=127.0.0.1:25
package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	workers := flag.Int("workers", 20, "sessions at a time")
	span := flag.Duration("time", 5*time.Second, "for each measurement")
	rounds := flag.Int("rounds", 3, "measurements of each kind; the median is told")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "sessionbench: name the servers, NAME=ADDRESS:PORT")
		os.Exit(2)
	}
	body := []byte("Subject: bench\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\nMessage-ID: <x@example.com>\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 60))
	fmt.Printf("%-10s %-10s %-12s %12s %10s %10s\n", "server", "TLS", "messages", "sessions/s", "p50", "p99")
	for _, kind := range []struct {
		secure bool
		body   []byte
	}{{false, nil}, {true, nil}, {false, body}, {true, body}} {
		results := make(map[string][]result)
		for range *rounds { // in turns, so that both meet the same weather
			for _, server := range flag.Args() {
				name, addr, ok := strings.Cut(server, "=")
				if !ok {
					fmt.Fprintf(os.Stderr, "sessionbench: %q is not NAME=ADDRESS:PORT\n", server)
					os.Exit(2)
				}
				r, err := measure(addr, kind.secure, kind.body, *workers, *span)
				if err != nil {
					fmt.Fprintf(os.Stderr, "sessionbench: %s: %v\n", name, err)
					os.Exit(1)
				}
				results[name] = append(results[name], r)
			}
		}
		for _, server := range flag.Args() {
			name, _, _ := strings.Cut(server, "=")
			list := results[name]
			slices.SortFunc(list, func(a, b result) int { return int(a.rate - b.rate) })
			r := list[len(list)/2]
			fmt.Printf("%-10s %-10t %-12d %12.0f %10s %10s\n", name, kind.secure, min(len(kind.body), 1), r.rate, r.p50.Round(100*time.Microsecond), r.p99.Round(100*time.Microsecond))
		}
	}
}

// result is one measurement.
type result struct {
	rate     float64 // sessions a second
	p50, p99 time.Duration
}

func measure(addr string, secure bool, body []byte, workers int, span time.Duration) (result, error) {
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	start := time.Now()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for time.Since(start) < span {
				begin := time.Now()
				err := session(addr, secure, body)
				mu.Lock()
				took = append(took, time.Since(begin))
				failed = errors.Join(failed, err)
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	all.Wait()
	if failed != nil {
		return result{}, failed
	}
	elapsed := time.Since(start).Seconds()
	slices.Sort(took)
	return result{rate: float64(len(took)) / elapsed, p50: took[len(took)/2], p99: took[len(took)*99/100]}, nil
}

// session is one whole session, every reply awaited. No TLS session is resumed.
func session(addr string, secure bool, body []byte) error {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	c, err := smtp.NewClient(conn, "relay.example.com")
	if err != nil {
		return err
	}
	if err := c.Hello("bench.example.com"); err != nil {
		return err
	}
	if secure {
		if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil { //nolint:gosec // both are on loopback and self-signed
			return err
		}
	}
	if body != nil {
		if err := send(c, body); err != nil {
			return err
		}
	}
	return c.Quit()
}

func send(c *smtp.Client, body []byte) error {
	if err := c.Mail("anna@example.com"); err != nil {
		return err
	}
	if err := c.Rcpt("kurt@sink.example"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Close()
}
