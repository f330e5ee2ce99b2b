package relay_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// world is a fake Internet with a relay in it.
type world struct {
	*testnet.Net
	t     testing.TB
	dir   string
	relay *relay.Relay
	addr  string
	stop  func()

	listen   string // more keys of the listener
	timeouts smtpclient.Timeouts
	public   bool   // private addresses are refused
	clock    *clock // nil: the real one
	space    string // limits.free_space; "": 64MiB
	log      *slog.Logger
}

// newWorld starts a relay with the given configuration beside what it needs to
// live in the fake Internet.
func newWorld(t testing.TB, toml string) *world {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Net: n, t: t, dir: t.TempDir()}
	w.start(toml)
	return w
}

// start starts the relay, again after a stop.
func (w *world) start(toml string) {
	w.t.Helper()
	file := w.configure(toml)
	load := func() (*config.Config, error) {
		c, _, err := config.Load(file, nil)
		return c, err
	}
	c, err := load()
	if err != nil {
		w.t.Fatal(err)
	}
	o := relay.Options{Config: c, Load: load, Dial: w.DialContext, Roots: w.CA.Roots(), Version: "test", Timeouts: w.timeouts, Logger: w.log}
	if o.Logger == nil {
		o.Logger = testLogger(w.t)
	}
	if w.clock != nil {
		o.Now, o.After = w.clock.Now, w.clock.After
	}
	r, err := relay.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(r)
}

// run lets a relay run until stop, or the end of the test.
func (w *world) run(r *relay.Relay) {
	w.t.Helper()
	w.relay = r
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() { done <- w.relay.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		w.t.Fatalf("the relay did not start: %v", err)
	}
	w.addr = w.relay.Addrs()[0].String()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the relay stopped with: %v", err)
		}
		w.stop = func() {}
	}
	w.t.Cleanup(func() { w.stop() })
}

// configure writes the configuration; toml goes on with [delivery].
func (w *world) configure(toml string) (file string) {
	w.t.Helper()
	file = filepath.Join(w.dir, "stsrelay.toml")
	private := "allow"
	if w.public {
		private = "refuse"
	}
	text := fmt.Sprintf(`hostname = "relay.test.example"
data_dir = %q
[[listen]]
address = "127.0.0.1:0"
%s[dns]
servers = [%q]
[limits]
free_space = %q
[delivery]
private_addresses = %q
`, w.dir, w.listen, w.DNS.Addr(), cmp.Or(w.space, "64MiB"), private) + toml
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// send hands a message to the relay and returns its queue ID.
func (w *world) send(from string, to ...string) string {
	w.t.Helper()
	id, err := sendMail(w.addr, from, "Subject: test\r\n\r\nHello\r\n.dot\r\n", to...)
	if err != nil {
		w.t.Fatalf("send to %v: %v", to, err)
	}
	return id
}

func sendMail(addr, from, body string, to ...string) (string, error) {
	c, err := smtp.Dial(addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Mail(from); err != nil {
		return "", err
	}
	for _, r := range to {
		if err := c.Rcpt(r); err != nil {
			return "", err
		}
	}
	if _, err := c.Text.Cmd("DATA"); err != nil {
		return "", err
	}
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		return "", err
	}
	d := c.Text.DotWriter()
	if _, err := d.Write([]byte(body)); err != nil {
		return "", err
	}
	if err := d.Close(); err != nil {
		return "", err
	}
	_, msg, err := c.Text.ReadResponse(250)
	if err != nil {
		return "", err
	}
	_, id, _ := strings.Cut(msg, "queued as ")
	return id, nil
}

// step is a command and the code of the reply to it.
type step struct {
	line string
	code int
}

// dialogue speaks SMTP with the relay, line by line.
func (w *world) dialogue(steps []step) error {
	c, err := textproto.Dial("tcp", w.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	return talk(c, steps)
}

func talk(c *textproto.Conn, steps []step) error {
	for _, s := range steps {
		if _, err := c.Cmd("%s", s.line); err != nil {
			return err
		}
		if _, _, err := c.ReadResponse(s.code); err != nil {
			return fmt.Errorf("%.40s: %w", s.line, err)
		}
	}
	return nil
}

// sendRequireTLS hands a message with REQUIRETLS to the relay, over TLS.
func (w *world) sendRequireTLS(from, to, body string) error {
	c, err := smtp.Dial(w.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil { //nolint:gosec // the relay's own, made for the test
		return err
	}
	return talk(c.Text, []step{{"MAIL FROM:<" + from + "> REQUIRETLS", 250}, {"RCPT TO:<" + to + ">", 250}, {"DATA", 354}, {body + ".", 250}})
}

// context ends when a test has waited for too long.
func (w *world) context() context.Context {
	limit := 20 * time.Second
	if _, ok := w.t.(*testing.B); ok {
		limit = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	w.t.Cleanup(cancel)
	return ctx
}

// waitFor polls the queue until ok says so.
func (w *world) waitFor(what string, ok func(*queue.Queue) bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx := w.context(); !ok(w.relay.Queue()); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// attempted waits until a message has had an attempt and returns it; gone says
// that it has left the queue.
func (w *world) attempted(id string) (m queue.Message, gone bool) {
	w.t.Helper()
	w.waitFor("an attempt of "+id, func(q *queue.Queue) bool {
		qid, err := ulid.ParseStrict(id)
		if err != nil {
			w.t.Fatal(err)
		}
		m, err = q.Show(qid)
		gone = err != nil
		return gone || m.Attempts > 0 && m.State == queue.Queued
	})
	return m, gone
}

func (w *world) host(name string) *testnet.Host {
	w.t.Helper()
	h, err := w.AddHost(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *world) domain(name string, d testnet.Domain) {
	w.t.Helper()
	if err := w.AddDomain(name, d); err != nil {
		w.t.Fatal(err)
	}
}

// policyFor is a policy that names one host.
func policyFor(mode, host string) testnet.Policy {
	return testnet.Policy{ID: "1", Mode: mode, MX: []string{host}, MaxAge: 86400}
}
