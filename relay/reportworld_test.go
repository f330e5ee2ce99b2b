package relay_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mox "github.com/mjl-/mox/tlsrpt"

	ourdkim "github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// clock is a clock that only a test moves.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	waiting []waiter
}

type waiter struct {
	at time.Time
	ch chan time.Time
}

// newClock begins today at noon (UTC): certificates of the fake Internet are
// good for some weeks around today.
func newClock() *clock {
	return &clock{now: time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := waiter{c.now.Add(d), make(chan time.Time, 1)}
	c.waiting = append(c.waiting, w)
	return w.ch
}

// set moves the clock, also back.
func (c *clock) set(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = to
	var later []waiter
	for _, w := range c.waiting {
		if w.at.After(to) {
			later = append(later, w)
		} else {
			w.ch <- to
		}
	}
	c.waiting = later
}

func (c *clock) day() string { return tlsrpt.DayOf(c.Now()) }

// tomorrow sets the clock to five in the morning of the next day, when all
// reports of the day are due.
func (c *clock) tomorrow() { c.set(c.Now().Truncate(24 * time.Hour).Add(29 * time.Hour)) }

// newClockWorld is a world with a clock, whose relay has not been started.
func newClockWorld(t *testing.T) *world {
	t.Helper()
	c := newClock()
	n, err := testnet.New(testnet.Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return &world{Net: n, t: t, dir: t.TempDir(), clock: c}
}

// newReportWorld is a world with a clock and DKIM keys of its sender, which are
// published.
func newReportWorld(t *testing.T, kinds ...string) *world {
	t.Helper()
	w := newClockWorld(t)
	w.start(w.keys(kinds...))
	return w
}

// keys makes keys of the sender, publishes them, and returns their tables.
func (w *world) keys(kinds ...string) (toml string) {
	w.t.Helper()
	for i, kind := range kinds {
		data, err := ourdkim.Generate(kind)
		if err != nil {
			w.t.Fatal(err)
		}
		selector := fmt.Sprintf("s%d", i)
		file := filepath.Join(w.dir, selector+".pem")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			w.t.Fatal(err)
		}
		k, err := ourdkim.Load("test.example", selector, file)
		if err != nil {
			w.t.Fatal(err)
		}
		record, err := k.Record("tlsrpt", "email") // go-msgauth wants "email"
		if err != nil {
			w.t.Fatal(err)
		}
		var parts []string
		for ; len(record) > 200; record = record[200:] {
			parts = append(parts, fmt.Sprintf("%q", record[:200]))
		}
		if err := w.DNS.Add(fmt.Sprintf("%s. 60 IN TXT %s %q", k.RecordName(), strings.Join(parts, " "), record)); err != nil {
			w.t.Fatal(err)
		}
		toml += fmt.Sprintf("[[dkim]]\ndomain = \"test.example\"\nselector = %q\nkey_file = %q\nsign = [\"reports\"]\n", selector, file)
	}
	return toml
}

func (w *world) receiver(name string) *testnet.ReportHost {
	w.t.Helper()
	h, err := w.AddReportHost(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// posted waits for n posts and reads the last one strictly.
func (w *world) posted(h *testnet.ReportHost, n int) *testnet.TLSReport {
	w.t.Helper()
	posts, err := h.Wait(w.context(), n)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.strict(posts[n-1].Report)
}

func (w *world) strict(data []byte) *testnet.TLSReport {
	w.t.Helper()
	r, err := testnet.ReadTLSReport(data)
	if err != nil {
		w.t.Fatalf("%v in %s", err, data)
	}
	other, err := mox.Parse(bytes.NewReader(data))
	if err != nil {
		w.t.Fatalf("mox: %v in %s", err, data)
	}
	if got, want := shortOfMox(other), short(r); got != want {
		w.t.Errorf("mox reads %s, and we %s", got, want)
	}
	return r
}

// deliver sends a message and waits until it has left the queue.
func (w *world) deliver(to ...string) {
	w.t.Helper()
	w.send("anna@sender.example", to...)
	w.empty()
}

// stands waits until the report of a domain is in a state.
func (w *world) stands(domain string, state tlsrpt.State) (st tlsrpt.Status) {
	w.t.Helper()
	w.waitFor("the report of "+domain+" to be "+string(state), func(*queue.Queue) bool {
		for _, s := range w.reportList() {
			if s.Domain == domain {
				st = s
				return s.State == state
			}
		}
		return false
	})
	return st
}

func (w *world) reportList() (out []tlsrpt.Status) {
	w.t.Helper()
	err := w.relay.ReportStatus(w.t.Context(), func(s tlsrpt.Status) bool { out = append(out, s); return true })
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// short tells what a report counts: one line for each policy and each kind of
// failure, sorted by the report itself.
func short(r *testnet.TLSReport) string {
	var lines []string
	for _, p := range r.Policies {
		line := fmt.Sprintf("%s %s +%d -%d", *p.Policy.Type, *p.Policy.Domain, *p.Summary.Successful, *p.Summary.Failed)
		for _, d := range p.Details {
			line += fmt.Sprintf(" %d×%s", *d.Count, *d.Type)
			if d.MXHost != nil {
				line += "@" + *d.MXHost
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func (w *world) policyFaults(domain string, f testnet.PolicyFaults) {
	w.t.Helper()
	site, err := w.PolicyHost(domain)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := site.Set(f); err != nil {
		w.t.Fatal(err)
	}
}

// txt is what the fake DNS has.
func (w *world) txt(name string) []string { return w.DNS.TXT(name) }

func (w *world) reportOn(day, domain string) (out *tlsrpt.Report) {
	w.t.Helper()
	err := w.relay.Reports(w.t.Context(), day, func(r *tlsrpt.Report) bool {
		if r.Policies[0].Policy.Domain == domain {
			out = r
		}
		return true
	})
	if err != nil || out == nil {
		w.t.Fatalf("no report of %s: %v", domain, err)
	}
	return out
}

// shortOfMox is short of what mox has read.
func shortOfMox(r *mox.ReportJSON) string {
	var lines []string
	for _, p := range r.Policies {
		line := fmt.Sprintf("%s %s +%d -%d", p.Policy.Type, p.Policy.Domain, p.Summary.TotalSuccessfulSessionCount, p.Summary.TotalFailureSessionCount)
		for _, d := range p.FailureDetails {
			line += fmt.Sprintf(" %d×%s", d.FailedSessionCount, d.ResultType)
			if d.ReceivingMXHostname != "" {
				line += "@" + d.ReceivingMXHostname
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}
