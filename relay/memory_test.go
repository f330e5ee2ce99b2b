package relay_test

import (
	"fmt"
	"net/smtp"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
)

// Twenty sessions that bring large messages at the same time cost a bounded
// memory: bodies go to the disk in chunks. Both ends of the sessions count,
// they are in this process.
func TestLargeMessagesAtOnceDoNotFillTheMemory(t *testing.T) {
	const sessions, bound = 20, 128 << 20
	size := 50 << 20
	if testing.Short() {
		size = 10 << 20 // more than the bound together
	}
	w := e2e.New(t, "paused = true\n")
	peak := watchHeap(t)
	part := []byte(strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1<<20/100))
	var half, all sync.WaitGroup
	half.Add(sessions)
	start := time.Now()
	for range sessions {
		all.Go(func() {
			if err := sendLarge(w.Addr, part, size/len(part), &half); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	p := peak()
	t.Logf("%d sessions × %d MiB in %v: heap at most %d MiB", sessions, size>>20, time.Since(start).Round(time.Millisecond), p>>20)
	if p > bound {
		t.Errorf("the heap reached %d MiB, more than %d", p>>20, bound>>20)
	}
}

// sendLarge sends part n times; half of it when all others have sent as much.
func sendLarge(addr string, part []byte, n int, half *sync.WaitGroup) error {
	arrived := sync.OnceFunc(half.Done)
	defer arrived()
	c, err := smtp.Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail("anna@sender.example"); err != nil {
		return err
	}
	if err := c.Rcpt("kurt@large.example"); err != nil {
		return err
	}
	if _, err := c.Text.Cmd("DATA"); err != nil {
		return err
	}
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		return err
	}
	if _, err := fmt.Fprint(c.Text.W, "Subject: large\r\n\r\n"); err != nil {
		return err
	}
	for i := range n {
		if i == n/2 {
			arrived()
			half.Wait()
		}
		if _, err := c.Text.W.Write(part); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprint(c.Text.W, ".\r\n"); err != nil {
		return err
	}
	if err := c.Text.W.Flush(); err != nil {
		return err
	}
	_, _, err = c.Text.ReadResponse(250)
	return err
}

// watchHeap returns a function that ends it and tells by how much the heap has grown at
// most. What other tests have left counts twice: so much of it may be garbage before it is
// collected.
func watchHeap(t *testing.T) func() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtime.GC()
	metrics.Read(sample)
	base := 2 * sample[0].Value.Uint64()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-stop:
				peak <- most - min(most, base)
				return
			case <-tick.C:
			}
		}
	}()
	end := sync.OnceValue(func() uint64 { close(stop); return <-peak })
	t.Cleanup(func() { end() })
	return end
}
