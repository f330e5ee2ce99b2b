package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/relay/trace"
)

func TestTraceAsksForOneThing(t *testing.T) {
	for args, want := range map[string]string{
		"trace":                                  "one ID, --domain or --host",
		"trace 01KAR7M3 --domain a.example":      "one ID, --domain or --host",
		"trace --domain a..example":              "not a domain",
		"trace --host mx.example --retry":        "--retry needs a message or --domain",
		"trace --domain a.example --attempts 0":  "--attempts must be at least 1",
		"trace --domain a.example --timeout 0s":  "--timeout more than 0",
		"trace --domain a.example --timeout now": "invalid argument",
	} {
		if r := command(t, "", strings.Fields(args)...); r.status != exitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: %d %s", args, r.status, r.err)
		}
	}
}

func TestTraceShowsAnAttempt(t *testing.T) {
	file, ids := operated(t)
	r := command(t, "", "queue", "show", ids[0], "--trace", "--config", file)
	if r.status != 0 || !strings.Contains(r.out, "no transcript is in memory") {
		t.Errorf("before an attempt: %+v", r)
	}
	r = command(t, "", "trace", ids[0], "--timeout", "200ms", "--config", file)
	if r.status != exitFailed || !strings.Contains(r.err, "no attempt was made") || !strings.Contains(r.err, "delivery is paused") {
		t.Errorf("while paused: %+v", r)
	}
	r = command(t, "", "trace", "01AAAAAAAAAA", "--config", file)
	if r.status != exitFailed || !strings.Contains(r.err, "no such message") {
		t.Errorf("of a message that is not there: %+v", r)
	}
	command(t, "", "queue", "resume", "--config", file)
	r = command(t, "", "trace", ids[0], "--retry", "--timeout", "60s", "--config", file)
	if r.status != 0 || !strings.Contains(r.out, ids[0]+"  to one.example") || !strings.Contains(r.out, "policy  whether there is") || !strings.Contains(r.out, "result  deferred: kurt@one.example") {
		t.Errorf("%+v", r)
	}
	r = command(t, "", "queue", "show", ids[0], "--trace", "--config", file)
	if r.status != 0 || !strings.Contains(r.out, "result  deferred: kurt@one.example") {
		t.Errorf("afterwards: %+v", r)
	}
}

func TestTraceLines(t *testing.T) {
	var out strings.Builder
	p := tracePrinter{out: &out}
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for i, e := range []trace.Event{
		{Step: trace.Began, Text: "attempt 1"}, {Host: "mx.example", Step: trace.Sent, Text: "EHLO relay"}, {Host: "mx.example", Step: trace.Received, Text: "250 ok", Dropped: 3},
	} {
		e.At, e.QueueID, e.Domain = at.Add(time.Duration(i)*time.Millisecond), "01KAR7M3", "a.example"
		p.print(&e)
	}
	want := "2026-11-28 12:00:00Z  01KAR7M3  to a.example\n   0.000s attempt attempt 1\n          mx.example\n   0.001s ->      EHLO relay\n          (3 events dropped, since they came too fast)\n   0.002s <-      250 ok\n"
	if out.String() != want {
		t.Errorf("%s, want\n%s", out.String(), want)
	}
}
