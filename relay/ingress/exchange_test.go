package ingress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// What a send connector of Exchange 2019 sends, octet by octet: EHLO, STARTTLS,
// EHLO, AUTH LOGIN, then messages by BDAT with the commands of each in one
// write, RSET where it gives one up, QUIT.
func TestASessionOfExchange(t *testing.T) {
	d := newServer(t, func(o *Options) {
		o.Listeners[0].Allow, o.Listeners[0].Auth = nil, true
		o.Headers = Headers{Strip: []string{"X-MS-Exchange-Organization-*", "x-originating-ip"}, HideInternalHops: true}
	})
	c := d.dial()
	c.want("220 relay.example.com ")
	hello := func() string {
		c.send("EHLO EX01.corp.example.com\r\n")
		var all strings.Builder
		for {
			line, err := c.br.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			all.WriteString(line)
			if line[3] == ' ' {
				return all.String()
			}
		}
	}
	offers := hello()
	for _, want := range []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS"} {
		if !strings.Contains(offers, want) {
			t.Errorf("EHLO in clear lacks %s:\n%s", want, offers)
		}
	}
	for _, not := range []string{"BINARYMIME", "AUTH", "REQUIRETLS", "XEXCH50", "X-ANONYMOUSTLS", "X-EXPS", "XSHADOW"} {
		if strings.Contains(offers, not) {
			t.Errorf("EHLO in clear offers %s:\n%s", not, offers)
		}
	}
	c.do("STARTTLS", "220 2.0.0 ")
	c.secure()
	offers = hello()
	if !strings.Contains(offers, "AUTH PLAIN LOGIN") || !strings.Contains(offers, "REQUIRETLS") || strings.Contains(offers, "STARTTLS") {
		t.Errorf("EHLO over TLS:\n%s", offers)
	}
	c.do("AUTH LOGIN", "334 VXNlcm5hbWU6")
	c.do(b64("exchange"), "334 UGFzc3dvcmQ6")
	c.do(b64("secret"), "235 2.7.0 ")

	header := "Received: from EX01.corp.example.com (10.0.0.5) by EX02.corp.example.com (10.0.0.6)\r\n" +
		" with Microsoft SMTP Server (version=TLS1_2,\r\n cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.2.1258.28; Mon, 23 Nov 2026 08:00:00 +0100\r\n" +
		"From: Anna <anna@example.com>\r\nTo: Kurt <kurt@example.org>\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\nDate: Mon, 23 Nov 2026 08:00:00 +0100\r\n" +
		"Message-ID: <b41c@example.com>\r\nX-Originating-IP: [10.0.0.77]\r\nX-MS-Exchange-Organization-AuthAs: Internal\r\n\t(folded)\r\nX-MS-Has-Attach: yes\r\nMIME-Version: 1.0\r\n\r\n"
	kept := "From: Anna <anna@example.com>\r\nTo: Kurt <kurt@example.org>\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\nDate: Mon, 23 Nov 2026 08:00:00 +0100\r\n" +
		"Message-ID: <b41c@example.com>\r\nX-MS-Has-Attach: yes\r\nMIME-Version: 1.0\r\n\r\n"
	envelope := func(rcpts ...string) {
		s := "MAIL FROM:<anna@example.com> SIZE=5123 BODY=8BITMIME AUTH=<> RET=HDRS ENVID=b41c+2B1\r\n"
		for _, r := range rcpts {
			s += "RCPT TO:<" + r + "> NOTIFY=FAILURE,DELAY ORCPT=rfc822;" + r + "\r\n"
		}
		c.send(s)
		for range len(rcpts) + 1 {
			c.want("250 2.")
		}
	}
	// One chunk.
	envelope("kurt@example.org", "maria@example.org", "paul@example.net")
	body1 := "hello\r\n.\r\n..\r\nMAIL FROM:<x@example.com>\r\n"
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s%s", len(header+body1), header, body1))
	c.want("250 2.0.0 queued as ")
	// Chunks that end anywhere, the last one empty.
	envelope("kurt@example.org")
	whole := header + strings.Repeat("0123456789abcdef\r\n", 20_000)
	var wire bytes.Buffer
	for rest := whole; rest != ""; {
		n := min(65_535, len(rest))
		fmt.Fprintf(&wire, "BDAT %d\r\n%s", n, rest[:n])
		rest = rest[n:]
	}
	wire.WriteString("BDAT 0 LAST\r\n")
	go func() { _, _ = c.conn.Write(wire.Bytes()) }()
	for range (len(whole) + 65_534) / 65_535 {
		c.want("250 2.0.0 ")
	}
	c.want("250 2.0.0 queued as ")
	// Given up inside a message, and before one.
	envelope("kurt@example.org")
	c.send("BDAT 10\r\nSubject: x")
	c.want("250 ")
	c.do("RSET", "250 2.0.0 ")
	envelope("kurt@example.org")
	c.do("RSET", "250 2.0.0 ")
	// X-commands that were not offered do no harm.
	c.do("X-EXPS GSSAPI", "501 ")
	// By DATA, with lines of its own making.
	envelope("kurt@example.org")
	c.do("DATA", "354 ")
	c.send(header + "last\nbare\r\n.\r\n")
	c.want("250 2.0.0 queued as ")
	c.do("QUIT", "221 2.0.0 ")
	c.want("EOF")

	contents := d.contents()
	if len(contents) != 3 {
		t.Fatalf("%d messages are queued", len(contents))
	}
	for i, want := range []string{body1, whole[len(header):], "last\r\nbare\r\n"} {
		got := contents[i]
		trace, rest, ok := strings.Cut(got, "From: Anna")
		if !ok || "From: Anna"+rest != kept+want {
			t.Errorf("message %d: content differs: %.600q", i, got)
		}
		if !strings.HasPrefix(trace, "Received: from EX01.corp.example.com ([127.0.0.1])\r\n\t(using TLS 1.3 with cipher ") || strings.Count(trace, "Received:") != 1 {
			t.Errorf("message %d: trace %q", i, trace)
		}
		if one := i > 0; strings.Contains(trace, "for <kurt@example.org>") != one {
			t.Errorf("message %d: trace %q", i, trace)
		}
	}
	m := d.messages()[0]
	if len(m.Recipients) != 3 || m.From != "anna@example.com" || !m.EightBit || m.Ret != "HDRS" || m.EnvID != "b41c+1" || m.Recipients[2].Domain != "example.net" || m.Recipients[0].ORcpt == "" {
		t.Errorf("envelope %+v", m.Envelope)
	}
}

// send one message by DATA or BDAT; the reply to it.
func (c *raw) message(how, content string) string {
	c.t.Helper()
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
	if how == "BDAT" {
		c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(content), content))
	} else {
		c.do("DATA", "354 ")
		c.send(content + ".\r\n")
	}
	return c.reply()
}

// What no message may have, by both ways in; the session goes on after each. No such
// message costs a signature.
func TestContentThatIsRefused(t *testing.T) {
	for _, how := range []string{"DATA", "BDAT"} {
		for _, tt := range []struct {
			name, content, want string
			change              func(*Options)
		}{
			{"NUL in the body", headers + "a\x00b\r\n", "550 5.6.0 ", nil},
			{"NUL in the header", "Subject: \x00\r\n\r\n", "550 5.6.0 ", nil},
			{"a line over 1 MiB", headers + strings.Repeat("x", maxLine+1) + "\r\n", "550 5.6.0 ", func(o *Options) { o.Limits.LongLines = "pass" }},
			{"a line over 998", headers + strings.Repeat("x", 999) + "\r\n", "550 5.6.0 ", func(o *Options) { o.Limits.LongLines = "reject" }},
			{"a header over 256 KiB", strings.Repeat("X-A: "+strings.Repeat("y", 90)+"\r\n", 3000) + "\r\n", "552 5.3.4 ", nil},
			{"bare LF", headers + "a\nb\r\n", "550 5.6.11 ", func(o *Options) { o.Limits.BareNewline = "reject" }},
			{"bare CR", headers + "a\rb\r\n", "550 5.6.11 ", func(o *Options) { o.Limits.BareNewline = "reject" }},
			{"too large", headers + strings.Repeat("0123456789\r\n", 10_000), "552 5.3.4 ", func(o *Options) { o.Limits.MessageSize = 64 << 10 }},
			{"hops", strings.Repeat("Received: from a by b;\r\n\tdate\r\n", 50) + headers + "x\r\n", "554 5.4.6 ", nil},
		} {
			t.Run(how+" "+tt.name, func(t *testing.T) {
				var last *seal
				d := newServer(t, func(o *Options) {
					if tt.change != nil {
						tt.change(o)
					}
					o.Sign = func(string) Signing { last = new(seal); return last }
				})
				c := d.hello()
				if got := c.message(how, tt.content); !strings.HasPrefix(got, tt.want) {
					t.Fatalf("%s, want %s", got, tt.want)
				}
				if last != nil && last.made {
					t.Error("it was signed")
				}
				c.do("NOOP", "250 ")
				if got := c.message(how, headers+"fine\r\n"); !strings.HasPrefix(got, "250 ") {
					t.Errorf("the next message: %s", got)
				}
				if !last.made {
					t.Error("the next message was not signed")
				}
				if got := d.contents(); len(got) != 1 || body(got[0]) != "fine\r\n" {
					t.Errorf("queued: %.200q", got)
				}
			})
		}
	}
}

// Octets that look like the end of a message, or like commands, to somebody
// else: each message arrives as one, and no octet of it is a command.
func TestSmuggling(t *testing.T) {
	evil := "MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nevil\r\n"
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\n\r.\r\n", "\r\n.\x0b\r\n", "\r\n. \r\n", "\r\n\x00.\r\n"} {
		for _, how := range []string{"DATA", "BDAT"} {
			d := newServer(t, nil)
			c := d.hello()
			got := c.message(how, headers+"a"+end+evil)
			if want := map[bool]string{true: "550 5.6.0 ", false: "250 2.0.0 queued"}[strings.Contains(end, "\x00")]; !strings.HasPrefix(got, want) {
				t.Errorf("%s %q: %s", how, end, got)
			}
			c.do("NOOP", "250 2.0.0 ")
			for _, m := range d.messages() {
				if m.From != "a@example.com" {
					t.Errorf("%s %q: a message of %s", how, end, m.From)
				}
			}
			for _, got := range d.contents() {
				for i := range got {
					if got[i] == '\n' && got[i-1] != '\r' || got[i] == '\r' && got[i+1] != '\n' {
						t.Errorf("%s %q: a bare newline is passed on: %q", how, end, got)
						break
					}
				}
				if !strings.HasSuffix(got, evil) {
					t.Errorf("%s %q: %q", how, end, got)
				}
			}
		}
	}
}

// NUL and what is not ASCII in command lines.
func TestOctetsOfCommands(t *testing.T) {
	d := newServer(t, nil)
	for _, line := range []string{"MAIL FROM:<a\x00@example.com>", "MAIL FROM:<a@example.com\x00>", "MAIL FROM:<\xff@example.com>", "MAIL FROM:<a@exa mple.com>", "MAIL FROM:<ä@example.com>", "MAIL FROM:<a\r@example.com>"} {
		c := d.hello()
		c.send(line + "\r\n")
		if got := c.reply(); got[0] != '5' || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// What scanners and old programs send, each in its own way.
func TestDevices(t *testing.T) {
	for _, tt := range []struct{ name, hello, mail, rcpt string }{
		{"no brackets", "HELO scanner", "MAIL FROM: a@example.com", "RCPT TO: b@example.org"},
		{"a space", "EHLO scanner", "MAIL FROM: <a@example.com>", "RCPT TO: <b@example.org>"},
		{"lower case", "helo scanner", "mail from:<a@example.com>", "rcpt to:<b@example.org>"},
		{"a name that is none", "HELO My_Printer #2", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"},
		{"an address", "EHLO [10.0.0.7]", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"},
		{"a bare address", "EHLO 10.0.0.7", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"},
		{"a name behind a tab", "HELO\tscanner", "MAIL FROM:\t<a@example.com>", "RCPT TO:\t<b@example.org>"},
		{"no name", "HELO", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"},
		{"a blank for a name", "HELO ", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"},
		{"no name to EHLO", "EHLO  ", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"},
		{"a final dot", "HELO scanner", "MAIL FROM:<a@example.com.>", "RCPT TO:<b@example.org.>"},
		{"an underscore", "EHLO BRN_0080", "MAIL FROM:<a@example.com> SIZE=0", "RCPT TO:<b@example.org>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newServer(t, nil)
			c := d.dial()
			c.want("220 ")
			c.do(tt.hello, "250 ")
			c.do(tt.mail, "250 ")
			c.do(tt.rcpt, "250 ")
			c.send("DATA\r\n")
			c.want("354 ")
			c.send("Subject: scan\n\nbare\n\r\n.\r\n")
			c.want("250 2.0.0 queued")
			got := d.contents()[0]
			if !strings.HasPrefix(got, "Received: from ") || !strings.HasSuffix(got, "Subject: scan\r\n\r\nbare\r\n\r\n") || strings.Contains(strings.SplitN(got, "\r\n", 2)[0], "#") {
				t.Errorf("%q", got)
			}
		})
	}
}
