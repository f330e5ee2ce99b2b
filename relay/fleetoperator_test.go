package relay_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/store/postgres/postgrestest"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// startFleet starts relays that share a PostgreSQL. Mail to wait.example waits in each.
func startFleet(t *testing.T, names ...string) (relays []*e2e.World) {
	t.Helper()
	url := postgrestest.URLFile(t, postgrestest.Start(t, 0))
	for _, name := range names {
		w := e2e.NewStopped(t)
		h := w.Host("mx.wait.example")
		w.Domain("wait.example", testnet.Domain{MX: []string{h.Name}})
		w.SetFaults(h, testnet.Faults{Replies: map[string]string{"greeting": "421 4.3.2 later"}})
		w.Start(fmt.Sprintf("retry = [\"1h\"]\n[queue]\nengine = \"postgres\"\nurl_file = %q\nreplication = \"none\"\n[fleet]\nname = %q\nterm = \"10s\"\n", url, name))
		relays = append(relays, w)
	}
	return relays
}

// The operator at one relay sees and changes the messages of all.
func TestAnOperatorSeesAndChangesTheMessagesOfAllRelays(t *testing.T) {
	ws := startFleet(t, "a", "b")
	a, b := ws[0], ws[1]
	here, there := a.Send("anna@sender.example", "kurt@wait.example"), b.Send("anna@sender.example", "ute@wait.example")
	a.Deferred(here)
	b.Deferred(there)
	op, actor := a.Relay.Operator(), operator.Actor{Via: "socket", User: "0"}
	list := func() map[string]operator.Message {
		t.Helper()
		out := make(map[string]operator.Message)
		if err := op.Messages(t.Context(), operator.Selection{All: true}, -1, func(m *operator.Message) bool { out[m.ID] = *m; return true }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	all := list()
	if len(all) != 2 || all[here].Relay != "a" || all[there].Relay != "b" || all[there].Reason.Code != all[here].Reason.Code || all[there].Attempts != 1 {
		t.Errorf("list: %+v", all)
	}
	if m, err := op.Message(there); err != nil || m.Relay != "b" || m.Recipients[0].Address != "ute@wait.example" {
		t.Errorf("show: %+v, %v", m, err)
	}
	shared := 0
	for here[shared] == there[shared] {
		shared++
	}
	if _, err := op.Message(here[:shared]); err == nil {
		t.Errorf("%s names a message of each relay, and one is shown", here[:shared])
	}
	if done, err := op.Change(t.Context(), actor, operator.Hold, operator.Selection{IDs: []string{here[:shared]}}); err != nil || done.Affected != 0 || len(done.Ambiguous) != 1 {
		t.Errorf("hold by a shared beginning: %+v, %v", done, err)
	}
	if sum, err := op.FleetSummary(t.Context()); err != nil || len(sum) != 1 || sum[0].Messages != 2 || sum[0].Recipients != 2 || sum[0].Ages[0] != 2 {
		t.Errorf("summary: %+v, %v", sum, err)
	}

	began := time.Now()
	done, err := op.Change(t.Context(), actor, operator.Hold, operator.Selection{IDs: []string{there, "01AAAAAAAAAAAAAAAAAAAAAAAA"}, Reason: "look at it"})
	if err != nil || done.Affected != 1 || !slices.Equal(done.Missing, []string{"01AAAAAAAAAAAAAAAAAAAAAAAA"}) || len(done.Unreached) != 0 {
		t.Errorf("hold: %+v, %v", done, err)
	}
	t.Logf("a change at another relay took %s", time.Since(began).Round(time.Millisecond))
	b.WaitFor("the message to be held", func(q *queue.Queue) bool { return q.Counts().Held == 1 })
	if m := list()[there]; m.State != "held" || m.HeldFor != "look at it" || list()[here].State != "queued" {
		t.Errorf("after the hold: %+v", m)
	}
	for _, row := range []struct {
		action operator.Action
		sel    operator.Selection
		want   int
	}{
		{operator.Release, operator.Selection{State: "held"}, 1},
		{operator.Retry, operator.Selection{Domain: "wait.example"}, 2},
		{operator.Remove, operator.Selection{To: "ute@wait.example", DryRun: true}, 1},
		{operator.Remove, operator.Selection{To: "ute@wait.example"}, 1},
	} {
		if done, err := op.Change(t.Context(), actor, row.action, row.sel); err != nil || done.Affected != row.want {
			t.Errorf("%s: %+v, %v; want %d", row.action, done, err, row.want)
		}
	}
	if all := list(); len(all) != 1 || all[here].Relay != "a" {
		t.Errorf("after the removal: %+v", all)
	}

	if _, err := op.Pause(t.Context(), actor, operator.PauseOrder{Domain: "wait.example"}); err != nil {
		t.Fatal(err)
	}
	if p := b.Relay.Operator().Pauses(); len(p) != 1 || p[0].Domain != "wait.example" || p[0].By != "socket 0 at a" {
		t.Errorf("pauses at b: %+v", p)
	}
	if r, err := op.Resume(t.Context(), actor, operator.PauseOrder{Domain: "wait.example"}); err != nil || !r.Resumed || len(b.Relay.Operator().Pauses()) != 0 {
		t.Errorf("resume: %+v, %v; at b %+v", r, err, b.Relay.Operator().Pauses())
	}
}

// The reports of a fleet have what all relays have counted, and can be read at each relay.
func TestTheReportsOfAFleetAreOneAtEachRelay(t *testing.T) {
	ws := startFleet(t, "a", "b")
	for _, w := range ws {
		h := w.Host("mx.good.example")
		w.Domain("good.example", testnet.Domain{MX: []string{h.Name}})
		w.Deliver("kurt@good.example")
	}
	day := tlsrpt.DayOf(time.Now())
	for i, w := range ws {
		var list []tlsrpt.Status
		await.Until(t, "the space of the reports, which is taken a second after the start", func() bool {
			list = nil
			return w.Relay.Operator().Reports(t.Context(), day, "good.example", func(s tlsrpt.Status) bool { list = append(list, s); return true }) == nil
		})
		if len(list) != 1 || list[0].Sessions != 2 {
			t.Errorf("at relay %d: %+v", i, list)
		}
		var previews []*tlsrpt.Report
		if err := w.Relay.Operator().PreviewReports(t.Context(), day, "", func(r *tlsrpt.Report) bool { previews = append(previews, r); return true }); err != nil {
			t.Fatal(err)
		}
		if len(previews) != 1 || previews[0].Policies[0].Summary.Successful != 2 {
			t.Errorf("the preview at relay %d: %+v", i, previews)
		}
	}
}
