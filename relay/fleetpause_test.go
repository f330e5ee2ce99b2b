//go:build unix

package relay_test

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// fleetMessage waits until a relay of a fleet has a message, by what w shows of it.
func fleetMessage(w *e2e.World, id, relay string, attempts int) operator.Message {
	w.T.Helper()
	for ctx := w.Context(); ; {
		m, err := w.Relay.Operator().Message(id)
		if err == nil && m.Relay == relay && m.Attempts >= attempts {
			return m
		}
		if ctx.Err() != nil {
			w.T.Fatalf("%s is not at %s after %d attempts: %+v, %v", id, relay, attempts, m, err)
		}
	}
}

// change does an action to one message of a fleet, whichever relay has it.
func change(w *e2e.World, action operator.Action, id string) {
	w.T.Helper()
	done, err := w.Relay.Operator().Change(w.T.Context(), operator.Actor{Via: "test"}, action, operator.Selection{IDs: []string{id}})
	if err != nil || done.Affected != 1 || len(done.Unreached) > 0 {
		w.T.Fatalf("%s: %+v, %v", action, done, err)
	}
}

// A pause counts also for the messages that a relay takes over after it was ordered, and its
// end is the end of it there.
func TestAPauseCountsForWhatIsTakenOver(t *testing.T) {
	for name, order := range map[string]operator.PauseOrder{"all": {}, "domain": {Domain: "wait.example"}} {
		t.Run(name, func(t *testing.T) {
			ws := startFleet(t, "a", "b")
			a, b := ws[0].In(t), ws[1].In(t)
			op, actor := a.Relay.Operator(), operator.Actor{Via: "test"}
			if _, err := op.Pause(t.Context(), actor, order); err != nil {
				t.Fatal(err)
			}
			id := b.Send("anna@sender.example", "ute@wait.example")
			b.Stop()
			fleetMessage(a, id, "a", 0)
			change(a, operator.Retry, id) // it is due, and would be tried
			change(a, operator.Hold, id)
			if m := fleetMessage(a, id, "a", 0); m.Attempts != 0 {
				t.Errorf("it was tried %d times", m.Attempts)
			}
			change(a, operator.Release, id)
			if _, err := op.Resume(t.Context(), actor, order); err != nil {
				t.Fatal(err)
			}
			fleetMessage(a, id, "a", 1)
		})
	}
}

// A pause is not ended in a queue that no relay works on: the operator is told, for mail would
// wait there for ever.
func TestTheEndOfAPauseSaysWhereItDoesNotReach(t *testing.T) {
	ws := startFleet(t, "a", "b")
	a, b := ws[0], ws[1]
	op, actor, order := a.Relay.Operator(), operator.Actor{Via: "test"}, operator.PauseOrder{Domain: "wait.example"}
	if _, err := op.Pause(t.Context(), actor, order); err != nil {
		t.Fatal(err)
	}
	b.Stop() // it has no messages, so nobody takes its space
	if _, err := op.Resume(t.Context(), actor, operator.PauseOrder{Domain: "other.example"}); err != nil {
		t.Errorf("a domain that is not paused there: %v", err)
	}
	if _, err := op.Resume(t.Context(), actor, order); err == nil || !strings.Contains(err.Error(), "b: ") {
		t.Errorf("the end of the pause: %v", err)
	}
}

// A reload counts for what was taken over, too.
func TestAReloadCountsForWhatWasTakenOver(t *testing.T) {
	ws := startFleet(t, "a", "b")
	a, b := ws[0], ws[1]
	id := b.Send("anna@sender.example", "ute@wait.example")
	b.Deferred(id)
	b.Stop()
	fleetMessage(a, id, "a", 1)
	change(a, operator.Hold, id) // the space is open
	a.Edit("retry = [\"1h\"]", "paused = true\nretry = [\"1h\"]")
	a.Reload()
	change(a, operator.Release, id)
	change(a, operator.Retry, id)
	change(a, operator.Hold, id)
	if m := fleetMessage(a, id, "a", 1); m.Attempts != 1 {
		t.Errorf("it was tried while delivery is paused: %d attempts", m.Attempts)
	}
	change(a, operator.Release, id)
	a.Edit("paused = true\n", "")
	a.Reload()
	fleetMessage(a, id, "a", 2)
}
