package history

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/bench/cputime"
)

// A search of 30 days is quick and small. By hand, in full size:
//
//	STSRELAY_HISTORY_MESSAGES=100000 go test ./relay/history -run TestASearchOfThirtyDays -v -timeout 20m
func TestASearchOfThirtyDays(t *testing.T) {
	if dir := os.Getenv("STSRELAY_HISTORY_SEARCH"); dir != "" {
		searchOnly(t, dir)
		return
	}
	messages := 500
	if s := os.Getenv("STSRELAY_HISTORY_MESSAGES"); s != "" {
		var err error
		if messages, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir, c := t.TempDir(), newClock()
	begin := time.Now()
	size := int64(0)
	for day := range 30 {
		size += writeDay(t, dir, c.Now().Truncate(24*time.Hour), day, messages)
		c.advance(24 * time.Hour)
	}
	t.Logf("%d messages, %d MiB, written in %s", 30*messages, size>>20, time.Since(begin).Round(time.Millisecond))
	// A process of its own shows what a search takes; the best of three, as on a busy machine
	// the garbage collector comes late.
	for try := 1; ; try++ {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestASearchOfThirtyDays$", "-test.v")
		cmd.Env = append(os.Environ(), "STSRELAY_HISTORY_SEARCH="+dir)
		out, err := cmd.Output()
		if err == nil {
			t.Logf("%s", bytes.TrimSpace(out))
			return
		}
		if try == 3 {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// searchOnly searches for an address that is there and one that is not.
func searchOnly(t *testing.T, dir string) {
	c := newClock()
	c.advance(30 * 24 * time.Hour)
	l := open(t, dir, c, func(o *Options) { o.Keep, o.Size = 60*24*time.Hour, 0 })
	for _, q := range []Query{
		{To: "kurt77@partner77.example"}, {To: "nobody@nowhere.example"}, {From: "nobody@corp.example"}, {Domain: "nowhere.example"},
		{MessageID: "12.7919.abcdef@exchange.example.com"}, {QueueID: "01KAR7M3QVJ0Z6000012000001"},
	} {
		begin, cpu, n := time.Now(), cputime.Used(), 0
		if err := l.Search(context.Background(), q, func(Record) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		took := cputime.Used() - cpu
		what := q.To + q.From + q.Domain + q.MessageID + q.QueueID
		t.Logf("%s: %d found in %s of the processors, %s", what, n, took.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
		if found := n > 0; found == strings.HasPrefix(what, "no") || took > 5*time.Second {
			t.Errorf("%s: %d found in %s", what, n, took)
		}
	}
	if runtime.GOOS != "linux" || raceDetector {
		return // it has memory of its own
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
