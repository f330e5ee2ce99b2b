package relay_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// logged collects a log.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newLoggedWorld is newWorld with a log to look at.
func newLoggedWorld(t *testing.T, toml string) (*world, *logged) {
	t.Helper()
	return newLoggedWorldBehind(t, testnet.ResolverFaults{}, toml)
}

// newLoggedWorldBehind is newLoggedWorld with a resolver of some kind.
func newLoggedWorldBehind(t *testing.T, resolver testnet.ResolverFaults, toml string) (*world, *logged) {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	log := new(logged)
	w := &world{Net: n, t: t, dir: t.TempDir(), log: slog.New(slog.NewJSONHandler(log, nil))}
	w.DNS.SetResolver(resolver)
	w.start(toml)
	return w, log
}

func (w *world) admin() *adminapi.Client {
	return adminapi.NewClient(filepath.Join(w.dir, "stsrelay.sock"))
}

// reload reloads by the API, as the command does.
func (w *world) reload() (restart []string) {
	w.t.Helper()
	var done adminapi.Reloaded
	if err := w.admin().Do(w.t.Context(), http.MethodPost, "/v1/reload", nil, &done); err != nil {
		w.t.Fatal(err)
	}
	return done.Restart
}

// edit changes the configuration file.
func (w *world) edit(old, now string) {
	w.t.Helper()
	file := filepath.Join(w.dir, "stsrelay.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		w.t.Fatalf("there is no %q in the configuration", old)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, now, 1)), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// The operator's last word on delivery as a whole holds until the next start,
// or until the file says something else.
func TestAReloadLeavesPauseAndResumeAsTheOperatorSaid(t *testing.T) {
	w := newWorld(t, "paused = false\n")
	for _, step := range []struct {
		name   string
		do     func()
		paused bool
	}{
		{"queue pause", func() { w.relay.Queue().SetPaused(true) }, true},
		{"a reload of the same", func() { w.reload() }, true},
		{"a reload of another key", func() { w.edit("paused = false", "paused = false\nconcurrency = 7"); w.reload() }, true},
		{"queue resume", func() { w.relay.Queue().SetPaused(false) }, false},
		{"paused in the file", func() { w.edit("paused = false", "paused = true"); w.reload() }, true},
		{"queue resume again", func() { w.relay.Queue().SetPaused(false) }, false},
		{"a reload of the same again", func() { w.reload() }, false},
		{"no longer paused in the file", func() { w.edit("paused = true", "paused = false"); w.reload() }, false},
	} {
		step.do()
		if got := w.relay.Queue().Paused(); got != step.paused {
			t.Errorf("after %s: paused = %t", step.name, got)
		}
	}
}

// A reload is compared with what runs, not with the file before.
func TestAReloadNamesTheKeysThatNeedAStart(t *testing.T) {
	w, log := newLoggedWorld(t, "")
	w.edit("127.0.0.1:0", "127.0.0.1:0\"\nallow = [\"127.0.0.1\"]\n[[listen]]\naddress = \"127.0.0.1:1")
	w.edit("relay.test.example", "other.test.example")
	w.edit("[limits]", "[limits]\nqueue_length = 1")
	const listen = "listen (address, tls, min_tls, proxy_protocol)"
	for range 2 {
		if got := w.reload(); !slices.Equal(got, []string{"hostname", listen}) {
			t.Errorf("the keys are %q", got)
		}
	}
	if n := strings.Count(log.String(), `"key":"hostname"`); n != 2 {
		t.Errorf("%d warnings of the hostname", n)
	}
	var status adminapi.Status
	if err := w.admin().Get(t.Context(), "/v1/status", nil, &status); err != nil || status.Hostname != "relay.test.example" {
		t.Errorf("the status names %s, %v", status.Hostname, err)
	}
	// What needs no start counts all the same.
	w.relay.Queue().SetPaused(true)
	w.send("a@sender.example", "b@a.example")
	if _, err := sendMail(w.addr, "a@sender.example", "x", "b@a.example"); err == nil || !strings.Contains(err.Error(), "the queue of this relay is full") {
		t.Errorf("a queue of one message: %v", err)
	}
	w.edit("other.test.example", "relay.test.example")
	w.edit("[[listen]]\naddress = \"127.0.0.1:1\"\n", "")
	if got := w.reload(); len(got) > 0 {
		t.Errorf("back to what runs: %q", got)
	}
}

// Policy hosts and MX hosts are allowed and refused together: an MX host that
// can be reached before its policy can would be sent to in clear.
func TestAReloadOfPrivateAddressesCountsForPolicyHosts(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Net: n, t: t, dir: t.TempDir(), public: true}
	w.start("")
	h := w.host("mx1.private.example")
	if err := h.Set(testnet.Faults{NoStartTLS: true}); err != nil {
		t.Fatal(err)
	}
	w.domain("private.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	id := w.send("anna@sender.example", "kurt@private.example")
	if m, _ := w.attempted(id); !strings.Contains(m.States[0].LastError, "non-public") && !strings.Contains(m.States[0].LastError, "private") {
		t.Fatalf("%q", m.States[0].LastError)
	}
	w.edit(`private_addresses = "refuse"`, `private_addresses = "allow"`)
	w.reload()
	if _, err := w.relay.Queue().Retry(context.Background(), queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	w.waitFor("a second attempt", func(q *queue.Queue) bool {
		done := true
		err := q.List(context.Background(), queue.Filter{}, func(m queue.Message) bool {
			done = m.Attempts >= 2 && m.State == queue.Queued
			return true
		})
		return err == nil && done
	})
	if got := h.Counts().Mails; got > 0 {
		t.Errorf("%d MAIL commands in clear", got)
	}
}

func TestAStartBelowTheFreeSpaceIsSaid(t *testing.T) {
	w, log := newLoggedWorld(t, "")
	if strings.Contains(log.String(), "no mail is taken in") {
		t.Error("it is said where there is room")
	}
	w.stop()
	w.space = "8000TiB"
	w.start("")
	if !strings.Contains(log.String(), `"level":"WARN","msg":"no mail is taken in`) {
		t.Errorf("nothing is said:\n%s", log)
	}
}
