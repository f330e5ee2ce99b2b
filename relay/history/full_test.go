//go:build unix

package history

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A search of 30 days is quick and small. By hand, in full size:
//
//	STSRELAY_HISTORY_LINES=100000 go test ./relay/history -run TestASearchOfThirtyDays -v -timeout 20m
func TestASearchOfThirtyDays(t *testing.T) {
	if dir := os.Getenv("STSRELAY_HISTORY_SEARCH"); dir != "" {
		searchOnly(t, dir)
		return
	}
	lines := 500
	if s := os.Getenv("STSRELAY_HISTORY_LINES"); s != "" {
		var err error
		if lines, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir, c := t.TempDir(), newClock()
	l := open(t, dir, c, func(o *Options) { o.Keep, o.Size = 60*24*time.Hour, 0 })
	begin := time.Now()
	for day := range 30 {
		for i := range lines {
			l.Add(bulky(c.Now().Add(time.Duration(i)*time.Millisecond), day, i))
			if i%5000 == 4999 || i == lines-1 { // so many fit into the queue
				if err := l.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.advance(24 * time.Hour)
	}
	if err := l.Close(); err != nil || l.Dropped() > 0 {
		t.Fatalf("%v, %d dropped", err, l.Dropped())
	}
	t.Logf("%d lines written in %s", 30*lines, time.Since(begin).Round(time.Millisecond))
	// A process of its own shows what a search takes.
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestASearchOfThirtyDays$", "-test.v")
	cmd.Env = append(os.Environ(), "STSRELAY_HISTORY_SEARCH="+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", bytes.TrimSpace(out))
}

// bulky is a delivery as a record has it, of about 550 octets.
func bulky(at time.Time, day, i int) Record {
	return Record{
		At: at, Kind: Attempt, QueueID: fmt.Sprintf("01KAR7M3QVJ0Z6%06d%06d", day, i), MessageID: fmt.Sprintf("<%d.%d.abcdef@exchange.example.com>", day, i*7919),
		From: fmt.Sprintf("user%d@example.com", i%500), To: []string{fmt.Sprintf("kurt%d@partner%d.example", i%9973, i%700)}, Domain: fmt.Sprintf("partner%d.example", i%700),
		Size: int64(10000 + i), Verdict: "delivered", Host: fmt.Sprintf("mx1.partner%d.example", i%700), IP: "192.0.2.1", Reply: fmt.Sprintf("250 2.0.0 OK queued as %08X", i*2654435761),
		Status: "2.0.0", Number: 1, Took: 0.25,
		TLS: &TLS{Version: "TLS 1.3", Cipher: "TLS_AES_256_GCM_SHA384", Group: "X25519MLKEM768", Proof: ProofSTS, PolicyID: "20261101", PolicyMode: "enforce"},
	}
}

// cpuTime is what this process has had of the processors: the machine may be busy.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// searchOnly searches for an address that is there and one that is not.
func searchOnly(t *testing.T, dir string) {
	c := newClock()
	c.advance(30 * 24 * time.Hour)
	l := open(t, dir, c, func(o *Options) { o.Keep, o.Size = 60*24*time.Hour, 0 })
	for _, to := range []string{"kurt77@partner77.example", "nobody@nowhere.example"} {
		begin, n := cpuTime(t), 0
		if err := l.Search(context.Background(), Query{To: to}, func(Record) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		took := cpuTime(t) - begin
		t.Logf("%s: %d found in %s", to, n, took.Round(time.Millisecond))
		if found := n > 0; found != strings.HasPrefix(to, "kurt") || took > 5*time.Second {
			t.Errorf("%s: %d found in %s", to, n, took)
		}
	}
	if runtime.GOOS != "linux" {
		return
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(peak)[0])
	t.Logf("%d MiB of memory at most", kib>>10)
	if err != nil || kib > 50<<10 {
		t.Errorf("%d KiB of memory, %v", kib, err)
	}
}
