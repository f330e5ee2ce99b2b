package ingress

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	const bad = "?"
	for in, want := range map[string]string{
		"<a@b.example>":                        "a@b.example",
		"<>":                                   "",
		" <a@b.example> SIZE=1":                "a@b.example",
		"a@b.example SIZE=1":                   "a@b.example",
		`<"a> b\""@b.example> SIZE=9`:          `"a> b\""@b.example`,
		`"a b"@b.example RET=HDRS`:             `"a b"@b.example`,
		"<@a.example,@b.example.:a@c.example>": "a@c.example",
		"<@a.example:>":                        "",
		"<@a.example>":                         bad,
		"<@:a@c.example>":                      bad,
		"<@a@b.example:c@d.example>":           bad,
		"<a@b.example":                         bad,
		"<a@b.example>SIZE=1":                  bad,
		"<a@b.example>>":                       bad,
		`<"a@b.example>`:                       bad,
		"":                                     bad,
		"  ":                                   bad,
		"<" + strings.Repeat("a", 300) + "@b.test>": strings.Repeat("a", 300) + "@b.test",
	} {
		a := parseArgs(in)
		if a.err != nil {
			a.path = bad
		}
		if a.path != want {
			t.Errorf("%q: %q, want %q", in, a.path, want)
		}
	}
}

func TestSizeIsAParameterAndNoPartOfAnAddress(t *testing.T) {
	for in, want := range map[string]int64{
		"<a@b.example>":                           0,
		"<a@b.example> SIZE=12 RET=HDRS":          12,
		"<> body=8bitmime size=4294967296":        1 << 32,
		"a@b.example SIZE=7":                      7,
		`<"a\" SIZE=9>"@b.example> SIZE=8`:        8,
		"<a@b.example> SIZE=-1":                   0,
		"<a@b.example> SIZE=":                     0,
		"<a@b.example> SIZE=99999999999999999999": 1<<63 - 1,
	} {
		if a := parseArgs(in); a.size() != want {
			t.Errorf("%s: %d, want %d", in, a.size(), want)
		}
	}
}

// What is no address is refused as it is, and never taken for another one.
func TestAddressesAtTheDoor(t *testing.T) {
	d := newServer(t, func(o *Options) { o.Postmaster = "postmaster@example.com" })
	for _, addr := range []string{
		"a@b@c.test", ".a..b.@c.test", "a..b@c.test", ".a@c.test", "a.@c.test", "a b@c.test", `a"b"@c.test`, `"a"b@c.test`, `"a"@b@c.test`, `"a@c.test`,
		"a@", "@c.test", "a", "a@c..test", "a@.c.test", "a@c.test..", "a@-c.test", "a@[1.2.3]", "a@[1.2.3.4].", "a@c test", "a\\@b@c.test", "a,b@c.test", "<a@c.test>", "a@c.test,b@c.test",
		"a\x7f@c.test", "a\u009b@c.test", "\"a\u202eb\"@c.test", "a\u200b@c.test", "a\xff@c.test", "a@c\u202e.test", "ä\u0085@c.test",
	} {
		c := d.hello()
		c.do("MAIL FROM:<"+addr+"> SMTPUTF8", "501 5.1.7 ")
		c.do("MAIL FROM:<> SMTPUTF8", "250 ")
		c.do("RCPT TO:<"+addr+">", "501 5.1.3 ")
		c.do("RCPT TO:<>", "501 5.1.3 ")
		c.do("DATA", "503 ")
		c.conn.Close()
	}
	c := d.hello()
	long := "bounces+" + strings.Repeat("1234567-ab12", 20) + "=customer.example@em1234.mailing-service.example"
	c.do("MAIL FROM:<"+long+">", "250 ")
	want := []string{"postmaster@example.com", "postmaster@example.com", long, "u@d.example", `"a@b"@c.test`, "ab@c.test"}
	for _, rcpt := range []string{"<postmaster>", "<PostMaster>", "<" + long + ">", "<u@d.example.>", `<"a@b"@c.test>`, `<"ab"@c.test>`} {
		c.do("RCPT TO:"+rcpt, "250 ")
	}
	c.do("DATA", "354 ")
	c.send(headers + "\r\n.\r\n")
	c.want("250 ")
	m := d.messages()[0]
	var got []string
	for _, r := range m.Recipients {
		got = append(got, r.Address)
	}
	if m.From != long || !slices.Equal(got, want) || m.Recipients[3].Domain != "d.example" {
		t.Errorf("%s to %q", m.From, got)
	}
}

// No mail is refused for a parameter that cannot be read: it is dropped, and the
// log says so.
func TestParametersOfAnEnvelope(t *testing.T) {
	var log logged
	d := newServer(t, func(o *Options) { o.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	dropped := 0
	for _, tt := range []struct{ mail, rcpt, ret, envID, notify, orcpt string }{
		{"RET=hdrs ENVID=a+2Bb AUTH=<>", "NOTIFY=success,FAILURE ORCPT=rfc822;a+2Bb@d.example", "HDRS", "a+b", "SUCCESS,FAILURE", "rfc822;a+b@d.example"},
		{"", "ORCPT=x400;/G=a/S=b/", "", "", "", "x400;/G=a/S=b/"},
		{"", "ORCPT=rfc822;u=v@d.example", "", "", "", "rfc822;u=v@d.example"},
		{"", `ORCPT=utf-8;\x{E9}@d.example`, "", "", "", "utf-8;é@d.example"},
		{"", "ORCPT=UTF-8;é@d.example", "", "", "", "UTF-8;é@d.example"},
		{"", "ORCPT=rfc822;" + strings.Repeat("a", 493), "", "", "", "rfc822;" + strings.Repeat("a", 493)},
		{"ENVID=" + strings.Repeat("e", 100), "", "", strings.Repeat("e", 100), "", ""},
		// dropped, each once
		{"ENVID=" + strings.Repeat("e", 101), "", "", "", "", ""},
		{"", "ORCPT=rfc822;" + strings.Repeat("a", 494), "", "", "", ""},
		{"ENVID=a+", "", "", "", "", ""},
		{"ENVID=", "", "", "", "", ""},
		{"ENVID=a+0Ab", "", "", "", "", ""},
		{"RET=ALL", "", "", "", "", ""},
		{"BODY=9BIT", "", "", "", "", ""},
		{"SIZE=-1", "", "", "", "", ""},
		{"SIZE", "", "", "", "", ""},
		{"", "NOTIFY=NEVER,DELAY", "", "", "", ""},
		{"", "NOTIFY=", "", "", "", ""},
		{"", "ORCPT", "", "", "", ""},
		{"", "ORCPT=rfc822", "", "", "", ""},
		{"", "ORCPT=rfc822;", "", "", "", ""},
		{"", "ORCPT=;a@b.example", "", "", "", ""},
		{"", "ORCPT=rfc822;a+0A@b.example", "", "", "", ""},
		{"", "ORCPT=rfc822;a+2b@b.example", "", "", "", ""},
		{"", "ORCPT=rfc822;\x1b[31m@b.example", "", "", "", ""},
		{"", `ORCPT=utf-8;a\x{202E}b@b.example`, "", "", "", ""},
		{"", `ORCPT=utf-8;\x{D800}@b.example`, "", "", "", ""},
		{"", "ORCPT=utf-8;\xff@b.example", "", "", "", ""},
	} {
		c := d.hello()
		c.do("MAIL FROM:<a@example.com> "+tt.mail, "250 ")
		c.do("RCPT TO:<b@example.org> "+tt.rcpt, "250 ")
		c.do("DATA", "354 ")
		c.send(headers + "\r\n.\r\n")
		c.want("250 ")
		c.conn.Close()
		all := d.messages()
		m := all[len(all)-1]
		r := m.Recipients[0]
		if m.Ret != tt.ret || m.EnvID != tt.envID || strings.Join(r.Notify, ",") != tt.notify || r.ORcpt != tt.orcpt {
			t.Errorf("%s, %s: %q %q %q %q", tt.mail, tt.rcpt, m.Ret, m.EnvID, r.Notify, r.ORcpt)
		}
		if len(all) > 7 {
			dropped++
		}
		if n := strings.Count(log.String(), "a parameter that cannot be read was dropped"); n != dropped {
			t.Fatalf("%s, %s: %d log lines, want %d", tt.mail, tt.rcpt, n, dropped)
		}
	}
	c := d.hello()
	c.do("MAIL FROM:<a@example.com> BODY=BINARYMIME", "504 5.5.4 ")
	c.do("MAIL FROM:<a@example.com> REQUIRETLS=x", "530 5.7.0 ")
}

// A message's recipients are bounded by what they take, not by their number alone.
func TestTheEnvelopeIsBounded(t *testing.T) {
	d := newServer(t, func(o *Options) { o.Limits.Recipients = 100_000 })
	c := d.hello()
	c.do("MAIL FROM:<a@example.com>", "250 ")
	local, taken := strings.Repeat("a", 1000), 0
	for range 2 * maxEnvelope / 1500 {
		c.send("RCPT TO:<" + local + "@example.org> ORCPT=rfc822;" + local[:480] + "\r\n")
		if got := c.reply(); strings.HasPrefix(got, "452 4.5.3 ") {
			break
		}
		taken++
	}
	if most := maxEnvelope / 1500; taken > most || taken < most*9/10 {
		t.Errorf("%d recipients are taken, about %d are 1 MiB", taken, most)
	}
	c.do("DATA", "354 ")
	c.send(headers + "\r\n.\r\n")
	c.want("250 ")
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
}

func FuzzArgs(f *testing.F) {
	for _, s := range []string{"<a@b.example> SIZE=1 ENVID=a+2Bb", `"a b"@c.example`, "<@a,@b:c@d>", `<a@b> ORCPT=utf-8;\x{e9}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a := parseArgs(s)
		if a.size() < 0 {
			t.Errorf("a size of %d", a.size())
		}
		for _, p := range a.params {
			_, value := param(p)
			if got, ok := parseORcpt(value); ok && (len(got) > maxORcpt || strings.ContainsAny(got, "\r\n\x00\x1b")) {
				t.Errorf("ORCPT %q is %q", value, got)
			}
		}
	})
}

// The address of the drop may be named as often as other recipients, and not without end:
// each time takes memory.
func TestTheDropIsNotNamedWithoutEnd(t *testing.T) {
	took := make(chan bool, 1)
	d := newServer(t, func(o *Options) {
		o.Drop = &Drop{Address: "reports@example.com", Take: func(context.Context, string, func() (io.Reader, error)) error { took <- true; return nil }}
	})
	c := d.hello()
	c.do("MAIL FROM:<a@example.com>", "250 ")
	const batch = 100
	taken := 0
	for range 2 * maxEnvelope / recipientSize / batch {
		c.send(strings.Repeat("RCPT TO:<reports@example.com>\r\n", batch))
		for range batch {
			if got := c.reply(); strings.HasPrefix(got, "250 ") {
				taken++
			} else if !strings.HasPrefix(got, "452 4.5.3 ") {
				t.Fatal(got)
			}
		}
	}
	if most := maxEnvelope / recipientSize; taken != most {
		t.Errorf("taken %d times, want %d", taken, most)
	}
	c.do("DATA", "354 ")
	c.send(headers + ".\r\n")
	c.want("250 ")
	<-took
}
