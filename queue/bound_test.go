package queue

import (
	"testing"

	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// What a domain asks for holds the mail that it binds. A TLS report, which tells of
// just that, and mail that nobody's policy binds do not wait with it.
func TestWhatNothingBindsDoesNotWaitForWhatADomainAsksFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	report, optional := to("tls@x.test"), to("a@x.test")
	report.Kind, report.From = Report, "reports@example.org"
	optional.TLSOptional = true
	b.accept("x", to("a@x.test"))
	bound := b.claim()
	waiting := b.accept("x", to("b@x.test"))
	b.accept("x", optional)
	if err := b.Add([]NewMessage{{Envelope: report, Body: []byte("report")}}, nil); err != nil {
		t.Fatal(err)
	}
	b.Finish(bound, Outcome{Results: all(bound, Queued), DomainBackoff: DomainBackoff{Reason: Reason{Code: "tls-cert", Text: "self-signed"}, PolicyOnly: true}})
	b.sync()
	if m := b.show(waiting); m.Waits[0].Backoff != (Reason{Code: "tls-cert", Text: "self-signed"}) || !m.NextAttemptAt.After(b.o.Now()) {
		t.Errorf("bound mail does not wait: %+v", m)
	}
	for _, want := range []string{"a@x.test", "tls@x.test"} {
		w := b.claim()
		if got := w.Envelope.Recipients[0].Address; got != want {
			t.Errorf("%s was claimed, not %s", got, want)
		}
		if m := b.show(w.Envelope.ID); m.Waits[0].Backoff != (Reason{}) {
			t.Errorf("it waits for %v", m.Waits)
		}
		b.finish(w, Delivered)
		if _, step := b.scheduler.Domain("x.test").Backoff(); step == 0 {
			t.Error("its delivery ended the back-off of the others")
		}
	}
	b.nothing("of what is bound")
}

func TestWhatNothingBindsIsKnownAfterARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	report, optional, required := to("a@x.test"), to("a@x.test"), to("a@x.test")
	report.Kind = Report
	optional.TLSOptional = true
	required.TLSOptional, required.RequireTLS = true, true
	want := make(map[ID]scheduler.Priority)
	for p, env := range map[scheduler.Priority]Envelope{{Generated: true, PolicyFree: true}: report, {PolicyFree: true}: optional, {}: required} {
		want[b.accept("x", env)] = p
	}
	b.restart()
	for id, p := range want {
		if got := b.byID[id].Groups[0].Priority; got != p {
			t.Errorf("priority %+v, want %+v", got, p)
		}
	}
}

// A host that is down is so for all.
func TestAHostThatIsDownHoldsAllMail(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	bound := b.claim()
	optional := to("a@x.test")
	optional.TLSOptional = true
	b.accept("x", optional)
	b.accept("x", optional)
	b.Finish(bound, Outcome{Results: all(bound, Queued), DomainBackoff: DomainBackoff{Reason: Reason{Code: "tls-cert", Text: "self-signed"}, PolicyOnly: true}})
	b.sync()
	b.fail(b.claim())
	b.nothing("during the back-off")
	if backoff, step := b.scheduler.Domain("x.test").Backoff(); backoff.PolicyOnly || step != 2 {
		t.Errorf("step %d, for what is bound only: %t", step, backoff.PolicyOnly)
	}
}
