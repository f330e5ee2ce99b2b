package trace

import (
	"testing"
	"time"
)

func TestAnAttemptSaysWhatItWaitsFor(t *testing.T) {
	tracer := new(Tracer)
	a := begin(tracer, "1", "a.test", "begin")
	sent := func(lines ...string) func() {
		return func() {
			for _, line := range lines {
				a.Add("mx", Sent, line)
			}
		}
	}
	received := func(lines ...string) func() {
		return func() {
			for _, line := range lines {
				a.Add("mx", Received, line)
			}
		}
	}
	for _, row := range []struct {
		then func()
		want string
	}{
		{func() {}, ""},
		{func() { a.WaitsFor(MailHosts, "a.test") }, "the mail hosts of a.test"},
		{func() { a.WaitsFor(Greeting, "mx") }, "the greeting of mx"},
		{received("220-mx", "220 mx"), ""},
		{sent("EHLO relay"), "the reply to EHLO from mx"},
		{received("250-mx"), "the reply to EHLO from mx"},
		{received("250 STARTTLS"), ""},
		{sent("STARTTLS"), "the reply to STARTTLS from mx"},
		{received("220 go on"), "the TLS handshake with mx"},
		{sent("EHLO relay"), "the reply to EHLO from mx"},
		{received("250 AUTH"), ""},
		{sent("AUTH PLAIN ***"), "the reply to AUTH from mx"},
		{received("334 "), ""},
		{sent("***"), "the reply to AUTH from mx"},
		{received("235 2.7.0 ok"), ""},
		{sent("MAIL FROM:<>", "RCPT TO:<a@a.test>", "DATA"), "the reply to MAIL from mx"},
		{received("250 2.1.0 ok"), "the reply to RCPT from mx"},
		{received("250 2.1.5 ok"), "the reply to DATA from mx"},
		{received("354 go on"), "the content to go to mx"},
		{sent("(12 octets of content)"), "the reply to the content from mx"},
		{received("250 2.0.0 ok"), ""},
		{sent("MAIL FROM:<>", "RCPT TO:<a@a.test>", "BDAT 5 LAST", "(5 octets of content)"), "the reply to MAIL from mx"},
		{received("250 ok", "250 ok"), "the reply to BDAT from mx"},
		{received("(no reply: timeout)"), "the reply to BDAT from mx"},
		{func() { a.WaitsFor(Connection, "mx2") }, "a connection to mx2"},
		{received("220 mx"), ""},
	} {
		row.then()
		if got := tracer.UnderWay(); len(got) != 1 || got[0].For.String() != row.want || got[0].QueueID != "1" || got[0].Domain != "a.test" {
			t.Errorf("%+v, want %q", got, row.want)
		}
	}
	a.WaitsAt(func() (int, int) { return 3, 10 })
	before := time.Now()
	a.WaitsFor(Greeting, "mx")
	if got := tracer.UnderWay()[0]; got.Sessions != 3 || got.Limit != 10 || got.Since.Before(before) {
		t.Errorf("%+v", got)
	}
	a.WaitsAt(nil)
	if got := tracer.UnderWay()[0]; got.Sessions != 0 || got.Limit != 0 {
		t.Errorf("%+v", got)
	}
	a.End(true, "end")
	if got := tracer.UnderWay(); len(got) != 0 {
		t.Errorf("after its end: %+v", got)
	}
}
