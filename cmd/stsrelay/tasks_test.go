package main

import (
	"errors"
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
)

// during runs a relay whose clock is off by some time while fn runs.
func during(t *testing.T, n *testnet.Net, file string, off time.Duration, fn func(r *relay.Relay)) {
	t.Helper()
	o := relay.Options{Dial: n.DialContext, Roots: n.CA.Roots(), Now: func() time.Time { return time.Now().Add(off) }}
	r, stop := begun(t, file, o)
	defer stop()
	fn(r)
}

// mailed hands one message in.
func mailed(t *testing.T, r *relay.Relay, from, to, id string) {
	t.Helper()
	mailedAt(t, r.Addrs()[0].String(), from, to, id)
}

// mailedAt hands one message to the relay at address.
func mailedAt(t *testing.T, address, from, to, id string) {
	t.Helper()
	c, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, err := func() (w interface {
		Write([]byte) (int, error)
		Close() error
	}, err error) {
		if err = errors.Join(c.Mail(from), c.Rcpt(to)); err != nil {
			return nil, err
		}
		return c.Data()
	}()
	if err == nil {
		fmt.Fprintf(w, "From: <%s>\r\nTo: <%s>\r\nMessage-ID: %s\r\nSubject: invoice\r\n\r\nHello\r\n", from, to, id)
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// queued waits until so many messages are in the queue, all of them tried.
func queued(t *testing.T, r *relay.Relay, want int) {
	t.Helper()
	await.Until(t, fmt.Sprintf("%d messages that were tried", want), func() bool {
		messages, tried := 0, 0
		if err := r.Queue().List(t.Context(), queue.Filter{}, func(m queue.Message) bool {
			messages++
			if m.State == queue.Queued && m.States[0].LastError != "" {
				tried++
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return messages == want && tried == want
	})
}

// told waits until the history has so many records.
func told(t *testing.T, file string, want int, args ...string) {
	t.Helper()
	await.Until(t, fmt.Sprintf("%d records of the history", want), func() bool {
		out := command(t, "", append(append([]string{"history", "--json"}, args...), "--config", file)...).out
		return strings.Count(out, "\n") >= want
	})
}

// task is what an operator wants to know or do, with at most three commands.
type task struct {
	t     *testing.T
	file  string // configuration
	dir   string // in which the commands run
	took  time.Duration
	count int
}

// run runs the program with the words of a line and expects status 0 and patterns in its
// output, in this order.
func (k *task) run(line string, patterns ...string) (out string) {
	k.t.Helper()
	self, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	cmd := exec.Command(self, append(strings.Fields(line), "--config", k.file)...)
	cmd.Dir, cmd.Env = k.dir, append(os.Environ(), asProgram)
	begun := time.Now()
	text, err := cmd.CombinedOutput()
	k.took += time.Since(begun)
	k.count++
	rest := string(text)
	for _, p := range patterns {
		found := regexp.MustCompile(p).FindStringIndex(rest)
		if found == nil {
			k.t.Fatalf("stsrelay %s: no %q, or not in its place, in\n%s", line, p, text)
		}
		rest = rest[found[1]:]
	}
	if err != nil || k.count > 3 {
		k.t.Fatalf("stsrelay %s: %v, command %d\n%s", line, err, k.count, text)
	}
	return string(text)
}

// The three questions that an operator has most often are answered with at most three
// commands each.
func TestTheOperatorsTasks(t *testing.T) {
	now := time.Now().UTC()
	month := time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC)
	// Certificates are of then, and still good.
	n, file := internetWith(t, testnet.Options{Now: func() time.Time { return month.AddDate(0, 0, 14) }}, "retry = [\"1h\"]\n[[listen]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n[limits]\nfree_space = \"64MiB\"\n[history]\nkeep = \"2400h\"\n")
	enforcing(t, n, "partner.example", testnet.Faults{})
	plain, err := n.AddHost("mx1.plain.example")
	if err == nil {
		err = errors.Join(plain.Set(testnet.Faults{NoStartTLS: true}), n.AddDomain("plain.example", testnet.Domain{MX: []string{plain.Name}}))
	}
	if err != nil {
		t.Fatal(err)
	}
	down, err := n.AddHost("mx1.down.example")
	if err == nil {
		err = errors.Join(down.Set(testnet.Faults{Down: true}), n.AddDomain("down.example", testnet.Domain{MX: []string{down.Name}}))
	}
	if err != nil {
		t.Fatal(err)
	}

	during(t, n, file, month.AddDate(0, 0, 14).Sub(now), func(r *relay.Relay) {
		for i := range 3 {
			mailed(t, r, "invoices@example.com", "kurt@partner.example", fmt.Sprintf("<invoice-%d@example.com>", i))
		}
		mailed(t, r, "invoices@example.com", "lena@plain.example", "<invoice-in-clear@example.com>")
		mailed(t, r, "anna@example.com", "kurt@partner.example", "<other@example.com>")
		queued(t, r, 0)
	})
	during(t, n, file, -24*time.Hour, func(r *relay.Relay) {
		mailed(t, r, "berta@example.com", "carl@partner.example", "<yesterday@example.com>")
		mailed(t, r, "anna@example.com", "carl@partner.example", "<not-this@example.com>")
		queued(t, r, 0)
	})
	during(t, n, file, 0, func(r *relay.Relay) {
		for i := range 3 {
			mailed(t, r, "anna@example.com", fmt.Sprintf("user%d@down.example", i), fmt.Sprintf("<waits-%d@example.com>", i))
			if i == 0 {
				queued(t, r, 1)
			}
		}
		newTask := func() *task { return &task{t: t, file: file, dir: t.TempDir()} }

		// Mail of Berta to Carl from yesterday: where is it, and over what TLS did it go?
		k := newTask()
		out := k.run("history --from berta@example.com --to carl@partner.example --since yesterday", `delivered`, `mx1\.partner\.example`)
		if strings.Contains(out, "anna@") {
			t.Errorf("mail of others is shown:\n%s", out)
		}
		k.run("history show <yesterday@example.com>", `mx1\.partner\.example`, `TLS 1\.3`, `250 `)
		t.Logf("mail from yesterday: %d commands, %s", k.count, k.took.Round(time.Millisecond))

		// Everything for a domain waits: why, since when, what helps? Then it is tried again.
		k = newTask()
		k.run("queue summary", `down\.example +3 +3 +\d+[ms]`, `connect`, `mx1\.down\.example`, `connection refused`, `(?m)^connect \(`, `(?m)^    stsrelay check down\.example`)
		if err := down.Set(testnet.Faults{}); err != nil {
			t.Fatal(err)
		}
		k.run("queue retry --domain down.example", `retry: 3 messages touched`)
		told(t, file, 3, "--domain", "down.example", "--verdict", "delivered")
		k.run("history --domain down.example --verdict delivered", `user\d@down\.example`, `user\d@down\.example`, `user\d@down\.example`)
		t.Logf("a domain that waits: %d commands, %s", k.count, k.took.Round(time.Millisecond))

		// An auditor asks how the invoices of a month travelled.
		k = newTask()
		period := fmt.Sprintf("--since %s --until %s", month.Format(time.DateOnly), month.AddDate(0, 1, 0).Format(time.DateOnly))
		guarded := 4
		if now.AddDate(0, 0, -1).Month() == month.Month() {
			guarded += 2 // the mail from yesterday
		}
		k.run("history summary --month "+month.Format("2006-01"), fmt.Sprintf(`%d   %.1f %%  MTA-STS`, guarded, 100*float64(guarded)/float64(guarded+1)), `1  plain\.example`)
		k.run("history evidence --from invoices@example.com "+period+" -o invoices.html", `invoices\.html: how 4 messages travelled`)
		page, err := os.ReadFile(filepath.Join(k.dir, "invoices.html"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"invoice-0@example.com", "invoice-1@example.com", "invoice-2@example.com", "invoice-in-clear@example.com", "mx1.partner.example", "TLS 1.3", "SHA-256"} {
			if !strings.Contains(string(page), want) {
				t.Errorf("the evidence lacks %s", want)
			}
		}
		if strings.Contains(string(page), "other@example.com") {
			t.Error("mail of others is in the evidence")
		}
		k.run("history --from invoices@example.com --proof none "+period, `lena@plain\.example`)
		t.Logf("the invoices of a month: %d commands, %s", k.count, k.took.Round(time.Millisecond))
	})
}
