package operator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// harness is an Operator with a queue of its own, and neither policies nor reports.
type harness struct {
	*operator.Operator
	t     *testing.T
	queue *queue.Queue
	log   bytes.Buffer
	wrong error // of a reload
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	d := &harness{t: t}
	log := slog.New(slog.NewTextHandler(&d.log, nil))
	st, err := badger.Open(badger.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if d.queue, err = queue.Open(queue.Options{Store: st, Paused: true, TrashSize: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.queue.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	d.Operator = operator.New(operator.Options{
		Queue: d.queue, Logger: log,
		Status: func() operator.Status { return operator.Status{Version: "test"} },
		Reload: func(context.Context) ([]string, error) { return []string{"hostname"}, d.wrong },
	})
	return d
}

// add puts one message for each domain into the queue and returns their IDs.
func (d *harness) add(domains ...string) (ids []string) {
	d.t.Helper()
	for _, domain := range domains {
		m := []queue.NewMessage{{Envelope: queue.Envelope{From: "a@a.example", Recipients: []queue.Recipient{{Address: "b@" + domain, Domain: domain}}}, Body: []byte("x\r\n")}}
		if err := d.queue.Add(m, nil); err != nil {
			d.t.Fatal(err)
		}
		ids = append(ids, m[0].Envelope.ID.String())
	}
	return ids
}

// logged returns what was logged since the last call, without the time.
func (d *harness) logged() string {
	text := regexp.MustCompile(`(?m)^time=\S+ `).ReplaceAllString(d.log.String(), "")
	d.log.Reset()
	return text
}

func TestEveryChangeIsLoggedWithItsActor(t *testing.T) {
	d := newHarness(t)
	id := d.add("one.example")[0]
	ctx, actor := t.Context(), operator.Actor{Via: "web", User: "anna"}
	var export bytes.Buffer
	change := func(action operator.Action, sel operator.Selection) func() error {
		return func() error {
			_, err := d.Change(ctx, actor, action, sel)
			return err
		}
	}
	for _, row := range []struct {
		name string
		do   func() error
		want string
	}{
		{"pause", func() error { _, err := d.Pause(ctx, actor, operator.PauseOrder{}); return err }, `msg="delivery paused by the operator"`},
		{"resume", func() error { _, err := d.Resume(ctx, actor, operator.PauseOrder{}); return err }, `msg="delivery resumed by the operator"`},
		{"retry", change(operator.Retry, operator.Selection{All: true}), `msg="queue changed by the operator" action=retry touched=1 all=true`},
		{"hold", change(operator.Hold, operator.Selection{IDs: []string{id}, Reason: "odd"}), `msg="queue changed by the operator" action=hold touched=1 ids=[` + id + `] reason=odd`},
		{"release", change(operator.Release, operator.Selection{State: "held"}), `msg="queue changed by the operator" action=release touched=1 state=held`},
		{"export", func() error { return d.Export(ctx, actor, &export) }, `msg="queue exported by the operator" messages=1 octets=3 unreadable=0`},
		{"remove", change(operator.Remove, operator.Selection{Domain: "ONE.example"}), `msg="queue changed by the operator" action=remove touched=1 domain=ONE.example`},
		{"restore", func() error { _, err := d.Restore(ctx, actor, operator.Selection{All: true}); return err }, `msg="messages restored by the operator" messages=1`},
		{"bounce", change(operator.Bounce, operator.Selection{All: true}), `msg="queue changed by the operator" action=bounce touched=1 all=true`},
		{"empty", func() error { _, err := d.EmptyTrash(ctx, actor); return err }, `msg="the trash was emptied by the operator" messages=0`},
		{"import", func() error { _, err := d.Import(ctx, actor, &export, true); return err }, `msg="queue imported by the operator" messages=1 present=0 damaged=0 complete=true error=""`},
		{"reload", func() error { _, err := d.Reload(ctx, actor); return err }, `msg="reload requested by the operator"`},
	} {
		if err := row.do(); err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if got, want := d.logged(), "level=INFO "+row.want+` actor="web anna"`+"\n"; got != want {
			t.Errorf("%s: got %swant %s", row.name, got, want)
		}
	}
	// A change that changes nothing is not logged.
	for _, sel := range []operator.Selection{{IDs: []string{"01ZZZZZZZZZZZZZZZZZZZZZZZZ"}}, {All: true, DryRun: true}} {
		if err := change(operator.Remove, sel)(); err != nil || d.logged() != "" {
			t.Errorf("%+v: %v", sel, err)
		}
	}
	if m, err := d.Message(id[:25]); err != nil || m.State != "held" || m.HeldFor != "imported on hold" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestAFilterByReasonChangesWhatWaitsForIt(t *testing.T) {
	d := newHarness(t)
	ids := d.add("one.example", "two.example", "three.example")
	change := func(action operator.Action, sel operator.Selection, want int) {
		t.Helper()
		if got, err := d.Change(t.Context(), operator.Actor{}, action, sel); err != nil || got.Affected != want {
			t.Errorf("%s %+v: %+v, %v, want %d", action, sel, got, err, want)
		}
	}
	change(operator.Hold, operator.Selection{IDs: ids[:2]}, 2)
	change(operator.Remove, operator.Selection{Why: "held", DryRun: true}, 2)
	change(operator.Remove, operator.Selection{Why: "dns"}, 0)
	change(operator.Remove, operator.Selection{Why: "held", Domain: "three.example"}, 0)
	change(operator.Remove, operator.Selection{Why: "held", Domain: "one.example"}, 1)
	change(operator.Remove, operator.Selection{Why: "new"}, 1)
	n := 0
	if err := d.Messages(t.Context(), operator.Selection{Why: "held", All: true}, -1, func(m *operator.Message) bool { n++; return m.ID == ids[1] }); err != nil || n != 1 {
		t.Error(n, err)
	}
	if _, err := d.Change(t.Context(), operator.Actor{}, operator.Remove, operator.Selection{Why: "mood"}); operator.HTTPStatus(err) != http.StatusBadRequest {
		t.Error(err)
	}
}

func TestAChangeNamesTheIDsThatItCannotFind(t *testing.T) {
	d := newHarness(t)
	ids := d.add("one.example", "two.example")
	const missing = "01ZZZZZZZZZZZZZZZZZZZZZZZZ"
	for _, row := range []struct {
		name                       string
		sel                        operator.Selection
		affected                   int
		missing, ambiguous, remain string
	}{
		{"none is there", operator.Selection{IDs: []string{missing}}, 0, missing, "", ids[0] + " " + ids[1]},
		{"a prefix of both", operator.Selection{IDs: []string{ids[0][:4]}}, 0, "", ids[0][:4], ids[0] + " " + ids[1]},
		{"a dry run", operator.Selection{All: true, DryRun: true}, 2, "", "", ids[0] + " " + ids[1]},
		{"one is there", operator.Selection{IDs: []string{strings.ToLower(ids[0]), missing}}, 1, missing, "", ids[1]},
		{"the others", operator.Selection{To: "b@two.example"}, 1, "", "", ""},
	} {
		got, err := d.Change(t.Context(), operator.Actor{}, operator.Remove, row.sel)
		if err != nil || got.Affected != row.affected || strings.Join(got.Missing, " ") != row.missing || strings.Join(got.Ambiguous, " ") != row.ambiguous {
			t.Errorf("%s: %+v, %v", row.name, got, err)
		}
		var remain []string
		err = d.Messages(t.Context(), operator.Selection{All: true}, -1, func(m *operator.Message) bool { remain = append(remain, m.ID); return true })
		if err != nil || strings.Join(remain, " ") != row.remain {
			t.Errorf("%s: %q remain, %v", row.name, remain, err)
		}
	}
}

func TestAListingEndsAtItsLimit(t *testing.T) {
	d := newHarness(t)
	d.add("one.example", "two.example", "three.example")
	for limit, want := range map[int]int{-1: 3, 0: 0, 1: 1, 3: 3, 9: 3} {
		n := 0
		if err := d.Messages(t.Context(), operator.Selection{All: true}, limit, func(*operator.Message) bool { n++; return true }); err != nil || n != want {
			t.Errorf("limit %d: %d messages, %v", limit, n, err)
		}
	}
}

func TestErrorsSayWhatKindTheyAre(t *testing.T) {
	d := newHarness(t)
	d.wrong = errors.New("the file is wrong")
	ctx, actor := t.Context(), operator.Actor{}
	change := func(action operator.Action, sel operator.Selection) error {
		_, err := d.Change(ctx, actor, action, sel)
		return err
	}
	_, noMessage := d.Message("01ZZZZZZZZZZZZZZZZZZZZZZZZ")
	_, _, noContent := d.Content("x y")
	_, noPolicy := d.Policy("a.example")
	_, noRemoval := d.RemovePolicy(ctx, actor, "a.example")
	_, noRestore := d.Restore(ctx, actor, operator.Selection{})
	_, noImport := d.Import(ctx, actor, strings.NewReader("no export"), false)
	_, noReload := d.Reload(ctx, actor)
	noReport := d.Reports(ctx, "", "", func(tlsrpt.Status) bool { return true })
	for _, row := range []struct {
		err  error
		want int
		text string
	}{
		{noMessage, http.StatusNotFound, "no such message"},
		{noContent, http.StatusNotFound, "no such message"},
		{noPolicy, http.StatusConflict, "MTA-STS is switched off"},
		{noRemoval, http.StatusConflict, "MTA-STS is switched off"},
		{noReport, http.StatusConflict, "TLS reports are switched off"},
		{noRestore, http.StatusBadRequest, "say which messages"},
		{noImport, http.StatusUnprocessableEntity, ""},
		{noReload, http.StatusUnprocessableEntity, "the file is wrong"},
		{change(operator.Hold, operator.Selection{}), http.StatusBadRequest, "say which messages"},
		{change(operator.Hold, operator.Selection{Domain: ".."}), http.StatusBadRequest, ""},
		{change(operator.Hold, operator.Selection{State: "asleep"}), http.StatusBadRequest, "not queued, active or held"},
		{change(operator.Hold, operator.Selection{OlderThan: "long"}), http.StatusBadRequest, "not a time such as 2h"},
		{change(operator.Hold, operator.Selection{OlderThan: "-2h"}), http.StatusBadRequest, "not a time such as 2h"},
		{change(operator.Hold, operator.Selection{All: true, DryRun: true}), http.StatusBadRequest, "not for hold"},
		{change("burn", operator.Selection{All: true}), http.StatusNotFound, `there is no action "burn"`},
		{fmt.Errorf("reading: %w", noMessage), http.StatusNotFound, ""},
		{io.ErrUnexpectedEOF, http.StatusInternalServerError, ""},
	} {
		if row.err == nil || operator.HTTPStatus(row.err) != row.want || !strings.Contains(row.err.Error(), row.text) {
			t.Errorf("%v: %d, want %d and %q", row.err, operator.HTTPStatus(row.err), row.want, row.text)
		}
	}
	if list := d.Policies(); list == nil || len(list) > 0 || d.PoliciesOff() == nil {
		t.Errorf("the policies are %+v", list)
	}
}

func TestTheStatusIsThatOfTheQueue(t *testing.T) {
	d := newHarness(t)
	d.add("one.example")
	if _, err := d.Change(t.Context(), operator.Actor{}, operator.Hold, operator.Selection{All: true}); err != nil {
		t.Fatal(err)
	}
	s := d.Status()
	if s.Version != "test" || !s.Accepting || s.Delivering || !s.Problem.IsZero() || s.Alerts == nil || s.Queue != (operator.QueueStatus{Messages: 1, Recipients: 1, Held: 1}) {
		t.Errorf("%+v", s)
	}
	if r, err := d.Resume(t.Context(), operator.Actor{}, operator.PauseOrder{}); err != nil || !r.Resumed {
		t.Errorf("%+v, %v", r, err)
	}
	if !d.Status().Delivering {
		t.Error("it does not deliver after a resume")
	}
}

// An undo leaves in the trash what was removed before its time, also of the same message.
func TestAnUndoRestoresWhatWasRemovedInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := new(memory.Place).Open()
		defer st.Close()
		q, err := queue.Open(queue.Options{Store: st, Paused: true, TrashSize: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		o := operator.New(operator.Options{Queue: q})
		m := queue.NewMessage{Envelope: queue.Envelope{From: "a@a.example", Recipients: []queue.Recipient{
			{Address: "b@one.example", Domain: "one.example"}, {Address: "b@two.example", Domain: "two.example"},
		}}, Body: []byte("x\r\n")}
		if err := q.Add([]queue.NewMessage{m}, nil); err != nil {
			t.Fatal(err)
		}
		for _, domain := range []string{"one.example", "two.example"} {
			time.Sleep(time.Hour)
			if done, err := o.Change(t.Context(), operator.Actor{}, operator.Remove, operator.Selection{Domain: domain}); done.Affected != 1 || err != nil {
				t.Fatal(done, err)
			}
		}
		if done, err := o.Undo(t.Context(), operator.Actor{}, 10*time.Minute); len(done.IDs) != 1 || err != nil {
			t.Errorf("undone: %+v, %v", done, err)
		}
		if list := o.Summary(); len(list) != 1 || list[0].Domain != "two.example" {
			t.Errorf("in the queue: %+v", list)
		}
	})
}
