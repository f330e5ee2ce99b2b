package tlsrpt

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
)

// A crash loses no count and no report, and sends nothing a second time but what
// nobody had written down; that has the same report-id.
func TestACrashSendsNothingTwice(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	o.publish("a.example", "v=TLSRPTv1; rua=mailto:x@r.example")
	o.publish("b.example", "v=TLSRPTv1; rua=https://r.example/")
	o.count(success, Result{Domain: "b.example", Policy: Policy{Type: PolicyNone}, At: noon})
	o.now = nextDay
	if err := o.newDay(t.Context(), nextDay); err != nil {
		t.Fatal(err)
	}
	// The process dies behind the first steps of an attempt: the counts are
	// closed, the mail is queued, the report is posted, and no more.
	for _, d := range []string{"a.example", "b.example"} {
		k := reportKey{Day: "2026-11-23", Domain: d}
		s, err := o.closeCounts(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		rua, _, err := o.destinations(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.submit(t.Context(), k, &s, rua); err != nil {
			t.Fatal(err)
		}
	}
	o.restart()
	o.at(nextDay)
	if len(o.queued) != 1 {
		t.Errorf("%d mails of one report", len(o.queued))
	}
	posts := h.Posts()
	if len(posts) != 2 || !bytes.Equal(posts[0].Report, posts[1].Report) {
		t.Errorf("%d posts, the same: %t", len(posts), bytes.Equal(posts[0].Report, posts[len(posts)-1].Report))
	}
	o.restart()
	o.at(nextDay.Add(3 * time.Hour))
	if len(o.queued) != 1 || len(h.Posts()) != 2 {
		t.Errorf("after another start: %d mails, %d posts", len(o.queued), len(h.Posts()))
	}
}

// A child process counts and says so after each commit, until it is killed.
func TestKill9LosesNoCountAndDoublesNone(t *testing.T) {
	dir := os.Getenv("TLSRPT_TEST_COUNT")
	if dir != "" {
		s, err := badger.Open(badger.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		tally := NewTally(nil)
		for n := 1; ; n++ {
			var b store.Batch
			tally.Count(&b, success)
			b.Set([]byte("x"), fmt.Append(nil, n)) // the result of the delivery
			if err := store.Commit(context.Background(), s, &b); err != nil {
				t.Fatal(err)
			}
			fmt.Println(n)
		}
	}
	for round := range 3 {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(round))
		c := exec.Command(os.Args[0], "-test.run=^TestKill9LosesNoCountAndDoublesNone$")
		c.Env = append(os.Environ(), "TLSRPT_TEST_COUNT="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		said := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscan(lines.Text(), &said); err == nil && said == 50+round {
				_ = c.Process.Kill()
			}
		}
		_ = c.Wait()
		s := openStore(t, dir)
		delivered, err := store.Get(s, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, s, "2026-11-23")
		if n := got[0].Policies[0].Successes; fmt.Sprint(n) != string(delivered) || int(n) < said {
			t.Errorf("%d counted, %s delivered, %d acknowledged", n, delivered, said)
		}
	}
}
