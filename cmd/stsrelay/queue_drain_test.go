package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// drained is a relay of the test: a real process that delivers nothing.
type drained struct {
	t                       *testing.T
	dir, config, smtp, http string
	cmd                     *exec.Cmd
}

func newDrained(t *testing.T) *drained {
	d := &drained{t: t, dir: t.TempDir(), smtp: freeAddress(t), http: freeAddress(t)}
	d.config = filepath.Join(d.dir, "stsrelay.toml")
	for name, text := range map[string]string{
		d.config: fmt.Sprintf("hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = %q\n[dns]\nservers = [\"127.0.0.1:1\"]\n[limits]\nfree_space = \"64MiB\"\n"+
			"[delivery]\npaused = true\n[admin]\nhttp = %q\nact_token_file = \"token\"\n", filepath.Join(d.dir, "data"), d.smtp, d.http),
		filepath.Join(d.dir, "token"): "the token\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.start()
	return d
}

func (d *drained) start() {
	d.t.Helper()
	d.cmd = startProgram(d.t, d.dir, io.Discard, "serve", "--config", d.config)
	running(d.t, d.client())
}

func (d *drained) client() *adminapi.Client {
	return adminapi.NewClient(filepath.Join(d.dir, "data", "stsrelay.sock"))
}

// killAndStart ends the process as a power cut would, and starts it anew.
func (d *drained) killAndStart() {
	d.t.Helper()
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	d.start()
}

func (d *drained) queued() map[string]int {
	d.t.Helper()
	var list []operator.Message
	if err := d.client().Get(d.t.Context(), "/v1/queue", nil, &list); err != nil {
		d.t.Fatal(err)
	}
	out := make(map[string]int)
	for _, m := range list {
		out[m.ID]++
	}
	return out
}

// drain runs the command in a process of its own, whose end the channel has.
func (d *drained) drain(to *drained) <-chan error {
	cmd := startProgram(d.t, d.dir, io.Discard, "queue", "drain", "--config", d.config, "--to", "http://"+to.http, "--token-file", filepath.Join(to.dir, "token"))
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return done
}

// All mail goes to another relay, while mail comes in and either process is killed in the
// middle. Nothing is lost or there twice. TEST_DRAINS in the environment is the number of rounds.
func TestDrainUnderLoadWithKills(t *testing.T) {
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("TEST_DRAINS")); err == nil {
		rounds = n
	}
	a, b := newDrained(t), newDrained(t)
	var mu sync.Mutex
	accepted := make(map[string]bool)
	send := func(n int) {
		for range n {
			id, err := e2e.SendMail(a.smtp, "s@a.example", "Subject: test\r\n\r\n"+strings.Repeat("text\r\n", 500), "anna@b.example")
			if err != nil {
				time.Sleep(50 * time.Millisecond) // the process is being killed
				continue
			}
			mu.Lock()
			accepted[id] = true
			mu.Unlock()
		}
	}
	for round := range rounds {
		send(60)
		var load sync.WaitGroup
		load.Go(func() { send(60) })
		done := a.drain(b)
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		if round%2 == 0 {
			b.killAndStart()
		} else {
			a.killAndStart()
		}
		load.Wait()
		<-done // that of a relay that was killed has failed
		if err := <-a.drain(b); err != nil {
			t.Fatalf("round %d: drain: %v", round, err)
		}
	}
	left, there := a.queued(), b.queued()
	if len(left) != 0 {
		t.Errorf("%d messages are left", len(left))
	}
	for id := range accepted {
		if there[id] != 1 {
			t.Errorf("%s is there %d times", id, there[id])
		}
	}
	t.Logf("%d rounds, %d messages accepted, %d there", rounds, len(accepted), len(there))
}

func TestADrainNeedsTheToken(t *testing.T) {
	a, b := newDrained(t), newDrained(t)
	if _, err := e2e.SendMail(a.smtp, "s@a.example", "Subject: test\r\n\r\ntext\r\n", "anna@b.example"); err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(a.dir, "wrong")
	if err := os.WriteFile(wrong, []byte("guess\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := command(t, "", "queue", "drain", "--config", a.config, "--json", "--to", "http://"+b.http, "--token-file", wrong)
	if r.status != 1 || !strings.Contains(r.err, "the other relay refuses") || len(a.queued()) != 1 || len(b.queued()) != 0 {
		t.Errorf("a wrong token: %+v", r)
	}
	if r := command(t, "", "queue", "drain", "--config", a.config, "--to", "http://relay.example.com:80", "--token-file", wrong); r.status != 2 || !strings.Contains(r.err, "only https://") {
		t.Errorf("without TLS: %+v", r)
	}
}
