package relay_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func TestReloadTakesOverWhatIsRightAndNothingThatIsWrong(t *testing.T) {
	w := e2e.New(t, "")
	if _, err := e2e.SendMail(w.Addr, "a@sender.example", "x", "b@a.example"); err != nil {
		t.Fatal(err)
	}
	w.Configure("[limits]\nrecipients = \"many\"\n")
	if err := w.Relay.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "limits") {
		t.Errorf("a wrong file was taken over: %v", err)
	}
	if _, err := e2e.SendMail(w.Addr, "a@sender.example", "x", "b@a.example"); err != nil {
		t.Errorf("after a refused reload: %v", err)
	}
	if err := os.Truncate(w.Configure(""), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Relay.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "is empty, as a full disk") {
		t.Errorf("an emptied file was taken over: %v", err)
	}
	w.Listener = "allow = [\"192.0.2.1\"]\n"
	w.Configure("")
	if err := w.Relay.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e2e.SendMail(w.Addr, "a@sender.example", "x", "b@a.example"); err == nil || !strings.Contains(err.Error(), "may not send mail through this relay") {
		t.Errorf("the new allow list is not in force: %v", err)
	}
}

// The operator's last word on delivery as a whole holds until the next start,
// or until the file says something else.
func TestAReloadLeavesPauseAndResumeAsTheOperatorSaid(t *testing.T) {
	w := e2e.New(t, "paused = false\n")
	for _, step := range []struct {
		name   string
		do     func()
		paused bool
	}{
		{"queue pause", func() { w.Relay.Queue().SetPaused(true) }, true},
		{"a reload of the same", func() { w.Reload() }, true},
		{"a reload of another key", func() { w.Edit("paused = false", "paused = false\nconcurrency = 7"); w.Reload() }, true},
		{"queue resume", func() { w.Relay.Queue().SetPaused(false) }, false},
		{"paused in the file", func() { w.Edit("paused = false", "paused = true"); w.Reload() }, true},
		{"queue resume again", func() { w.Relay.Queue().SetPaused(false) }, false},
		{"a reload of the same again", func() { w.Reload() }, false},
		{"no longer paused in the file", func() { w.Edit("paused = true", "paused = false"); w.Reload() }, false},
	} {
		step.do()
		if got := w.Relay.Queue().Paused(); got != step.paused {
			t.Errorf("after %s: paused = %t", step.name, got)
		}
	}
}

// A reload is compared with what runs, not with the file before.
func TestAReloadNamesTheKeysThatNeedAStart(t *testing.T) {
	w, log := e2e.NewLogged(t, "")
	w.Edit("127.0.0.1:0", "127.0.0.1:0\"\nallow = [\"127.0.0.1\"]\n[[listen]]\naddress = \"127.0.0.1:1")
	w.Edit("relay.test.example", "other.test.example")
	w.Edit("[limits]", "[limits]\nqueue_length = 1")
	const listen = "listen (address, tls, min_tls, proxy_protocol)"
	for range 2 {
		if got := w.Reload(); !slices.Equal(got, []string{"hostname", listen}) {
			t.Errorf("the keys are %q", got)
		}
	}
	if n := strings.Count(log.String(), `"key":"hostname"`); n != 2 {
		t.Errorf("%d warnings of the hostname", n)
	}
	var status operator.Status
	if err := w.Admin().Get(t.Context(), "/v1/status", nil, &status); err != nil || status.Hostname != "relay.test.example" {
		t.Errorf("the status names %s, %v", status.Hostname, err)
	}
	// What needs no start counts all the same.
	w.Relay.Queue().SetPaused(true)
	w.Send("a@sender.example", "b@a.example")
	if _, err := e2e.SendMail(w.Addr, "a@sender.example", "x", "b@a.example"); err == nil || !strings.Contains(err.Error(), "the queue of this relay is full") {
		t.Errorf("a queue of one message: %v", err)
	}
	w.Edit("other.test.example", "relay.test.example")
	w.Edit("[[listen]]\naddress = \"127.0.0.1:1\"\n", "")
	if got := w.Reload(); len(got) > 0 {
		t.Errorf("back to what runs: %q", got)
	}
}

// Policy hosts and MX hosts are allowed and refused together: an MX host that
// can be reached before its policy can would be sent to in clear.
func TestAReloadOfPrivateAddressesCountsForPolicyHosts(t *testing.T) {
	w := e2e.NewStopped(t)
	w.RefusePrivate = true
	w.Start("")
	h := w.Host("mx1.private.example")
	if err := h.Set(testnet.Faults{NoStartTLS: true}); err != nil {
		t.Fatal(err)
	}
	w.Domain("private.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	id := w.Send("anna@sender.example", "kurt@private.example")
	if m, _ := w.Attempted(id); !strings.Contains(m.States[0].LastError, "non-public") && !strings.Contains(m.States[0].LastError, "private") {
		t.Fatalf("%q", m.States[0].LastError)
	}
	w.Edit(`private_addresses = "refuse"`, `private_addresses = "allow"`)
	w.Reload()
	if _, err := w.Relay.Queue().Retry(context.Background(), queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	w.WaitFor("a second attempt", func(q *queue.Queue) bool {
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
	w, log := e2e.NewLogged(t, "")
	if strings.Contains(log.String(), "no mail is taken in") {
		t.Error("it is said where there is room")
	}
	w.Stop()
	w.FreeSpace = "8000TiB"
	w.Start("")
	if !strings.Contains(log.String(), `"level":"WARN","msg":"no mail is taken in`) {
		t.Errorf("nothing is said:\n%s", log)
	}
}
