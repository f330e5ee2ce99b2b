package queue

import "testing"

// What a domain asks for holds the mail that it binds. A TLS report, which tells of
// just that, and mail that nobody's policy binds do not wait with it.
func TestWhatNothingBindsDoesNotWaitForWhatADomainAsksFor(t *testing.T) {
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
	b.Finish(bound, Outcome{Results: all(bound, Queued), DomainFailed: Reason{Code: "tls-cert", Text: "self-signed"}, Bound: true})
	b.sync()
	if m := b.show(waiting); m.Rests[0] != (Reason{Code: "tls-cert", Text: "self-signed"}) || !m.NextAttemptAt.After(b.o.Now()) {
		t.Errorf("bound mail does not wait: %+v", m)
	}
	for _, want := range []string{"a@x.test", "tls@x.test"} {
		w := b.claim()
		if got := w.Envelope.Recipients[0].Address; got != want {
			t.Errorf("%s was claimed, not %s", got, want)
		}
		if m := b.show(w.Envelope.ID); m.Rests[0] != (Reason{}) {
			t.Errorf("it rests for %v", m.Rests)
		}
		b.finish(w, Delivered)
		if d := b.domains["x.test"]; d.restStep == 0 {
			t.Error("its delivery ended the rest of the others")
		}
	}
	b.nothing("of what is bound")
}

func TestWhatNothingBindsIsKnownAfterARestart(t *testing.T) {
	b := newBench(t, Options{})
	report, optional, required := to("a@x.test"), to("a@x.test"), to("a@x.test")
	report.Kind = Report
	optional.TLSOptional = true
	required.TLSOptional, required.RequireTLS = true, true
	want := make(map[ID]lane)
	for l, env := range map[lane]Envelope{laneReport: report, laneFree: optional, laneMail: required} {
		want[b.accept("x", env)] = l
	}
	b.restart()
	for id, l := range want {
		if got := b.byID[id].units[0].lane; got != l {
			t.Errorf("lane %d, want %d", got, l)
		}
	}
}

// A host that is down is so for all.
func TestAHostThatIsDownLetsAllRest(t *testing.T) {
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	bound := b.claim()
	optional := to("a@x.test")
	optional.TLSOptional = true
	b.accept("x", optional)
	b.accept("x", optional)
	b.Finish(bound, Outcome{Results: all(bound, Queued), DomainFailed: Reason{Code: "tls-cert", Text: "self-signed"}, Bound: true})
	b.sync()
	b.fail(b.claim())
	b.nothing("during the rest")
	if d := b.domains["x.test"]; d.restBound || d.restStep != 2 {
		t.Errorf("step %d, for what is bound only: %t", d.restStep, d.restBound)
	}
}
