package smtpclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

// script plays the host: a line that begins with "<" is expected from the
// client, all others are sent. Lines expected without a line sent between them
// must arrive without an answer: that is pipelining.
func script(t *testing.T, lines string) (conn net.Conn, done chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	done = make(chan string, 1)
	go func() { done <- playScript(l, lines) }()
	conn, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, done
}

// playScript returns what went wrong, "" for nothing.
func playScript(l net.Listener, lines string) string {
	c, err := l.Accept()
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	br := bufio.NewReader(c)
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if want, ok := strings.CutPrefix(line, "<"); ok {
			got, err := br.ReadString('\n')
			if got = strings.TrimRight(got, "\r\n"); got != strings.TrimSpace(want) {
				return fmt.Sprintf("got %q (%v), want %q", got, err, want)
			}
			continue
		}
		if line == "hang" {
			_, _ = io.Copy(io.Discard, c)
			return ""
		}
		if _, err := io.WriteString(c, line+"\r\n"); err != nil {
			return err.Error()
		}
	}
	return ""
}

const greeting = `220 mx.example.org ESMTP
<EHLO relay.example.com
250-mx.example.org
250-PIPELINING
250-SIZE 1000000
250-8BITMIME
250-SMTPUTF8
250 DSN
`

func connect(t *testing.T, lines string) (*Client, chan string) {
	t.Helper()
	conn, done := script(t, lines)
	c, err := New(t.Context(), conn, Options{Name: "relay.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return c, done
}

func finish(t *testing.T, done chan string) {
	t.Helper()
	if problem := <-done; problem != "" {
		t.Error(problem)
	}
}

func TestAMessageWithTwoRecipientsIsPipelined(t *testing.T) {
	c, done := connect(t, greeting+`
<MAIL FROM:<anna@example.com> SIZE=17 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb
<RCPT TO:<kurt@example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;kurt+2Bx@example.org
<RCPT TO:<nobody@example.org>
<DATA
250 2.1.0 ok
250 2.1.5 ok
550 5.1.1 no such user
354 go
<Subject: x
<
<..dot
<end
<.
250 2.0.0 taken
<MAIL FROM:<> SIZE=1
<RCPT TO:<kurt@example.org>
<DATA
250 ok
250 ok
354 go
<x
<.
250 ok
<QUIT
221 bye`)
	out, err := c.Send(t.Context(), Transaction{
		From: "anna@example.com", Size: 17, Bit8: true, SMTPUTF8: true, Ret: "HDRS", EnvID: "a+b", Body: strings.NewReader("Subject: x\r\n\r\n.dot\r\nend"),
		Recipients: []Recipient{{Address: "kurt@example.org", Notify: []string{"FAILURE", "DELAY"}, ORcpt: "rfc822;kurt+x@example.org"}, {Address: "nobody@example.org"}},
	})
	if err != nil || !out.BodySent || out.Final.String() != "250 2.0.0 taken" {
		t.Fatalf("%+v, %v", out, err)
	}
	if !out.Recipients[0].Accepted || out.Recipients[1].Accepted || out.Recipients[1].Reply.Enhanced != "5.1.1" {
		t.Errorf("%+v", out.Recipients)
	}
	if out, err = c.Send(t.Context(), Transaction{Size: 1, Body: strings.NewReader("x\r\n"), Recipients: []Recipient{{Address: "kurt@example.org"}}}); err != nil || out.Final.Code != 250 {
		t.Errorf("second message: %+v, %v", out, err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	finish(t, done)
}

func TestWithoutExtensionsStepByStep(t *testing.T) {
	c, done := connect(t, `220 mx
<EHLO relay.example.com
502 what?
<HELO relay.example.com
250 mx
<MAIL FROM:<anna@example.com>
250 ok
<RCPT TO:<kurt@example.org>
250 ok
<DATA
354 go
<hello
<.
250 taken`)
	out, err := c.Send(t.Context(), Transaction{From: "anna@example.com", Size: 5, Ret: "FULL", Body: strings.NewReader("hello"), Recipients: []Recipient{{Address: "kurt@example.org", Notify: []string{"NEVER"}}}})
	if err != nil || !out.Final.OK() {
		t.Errorf("%+v, %v", out, err)
	}
	finish(t, done)
}

func TestNothingButADotIsSentWhereNobodyIsAccepted(t *testing.T) {
	c, done := connect(t, greeting+`
<MAIL FROM:<anna@example.com>
<RCPT TO:<kurt@example.org>
<DATA
250 ok
550 no
354 go all the same
<.
554 nobody
<NOOP`)
	out, err := c.Send(t.Context(), Transaction{From: "anna@example.com", Body: strings.NewReader("secret"), Recipients: []Recipient{{Address: "kurt@example.org"}}})
	if err != nil || out.BodySent || out.Final.Code != 0 || !c.Usable() {
		t.Errorf("%+v, %v", out, err)
	}
	c.write("NOOP")
	_ = c.flush("NOOP")
	finish(t, done)
}

func TestARefusedSenderLeavesTheSessionInStep(t *testing.T) {
	c, done := connect(t, greeting+`
<MAIL FROM:<anna@example.com>
<RCPT TO:<kurt@example.org>
<DATA
550 5.7.1 not you
503 5.5.1 no MAIL
503 5.5.1 no RCPT
<RSET
<MAIL FROM:<kurt@example.com>
<RCPT TO:<kurt@example.org>
<DATA
250 ok
250 ok
250 ok
354 go
<y
<.
250 taken`)
	out, err := c.Send(t.Context(), Transaction{From: "anna@example.com", Body: strings.NewReader("x"), Recipients: []Recipient{{Address: "kurt@example.org"}}})
	if err != nil || out.Mail.Code != 550 || out.BodySent {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = c.Send(t.Context(), Transaction{From: "kurt@example.com", Body: strings.NewReader("y"), Recipients: []Recipient{{Address: "kurt@example.org"}}})
	if err != nil || !out.Final.OK() {
		t.Errorf("the next message: %+v, %v", out, err)
	}
	finish(t, done)
}

func TestWhatTheHostCannotTakeIsNotSent(t *testing.T) {
	for _, tt := range []struct {
		name string
		t    Transaction
		want error
	}{
		{"too large", Transaction{Size: 1_000_001}, ErrTooLarge},
		{"REQUIRETLS", Transaction{RequireTLS: true}, ErrNeedsRequireTLS},
	} {
		c, done := connect(t, greeting+"<NOOP")
		if _, err := c.Send(t.Context(), tt.t); !errors.Is(err, tt.want) || !c.Usable() {
			t.Errorf("%s: %v", tt.name, err)
		}
		c.write("NOOP")
		_ = c.flush("NOOP")
		finish(t, done)
	}
}

func TestA421EndsTheSession(t *testing.T) {
	c, _ := connect(t, greeting+`
<MAIL FROM:<anna@example.com>
<RCPT TO:<kurt@example.org>
<DATA
250 ok
421 4.3.2 going down`)
	out, err := c.Send(t.Context(), Transaction{From: "anna@example.com", Body: strings.NewReader("x"), Recipients: []Recipient{{Address: "kurt@example.org"}}})
	if err != nil || out.Recipients[0].Reply.Code != 421 || c.Usable() {
		t.Errorf("%+v, %v, usable %t", out, err, c.Usable())
	}
}

func TestABodyThatCannotBeReadIsNeverEnded(t *testing.T) {
	conn, done := script(t, greeting+`
<MAIL FROM:<anna@example.com>
<RCPT TO:<kurt@example.org>
<DATA
250 ok
250 ok
354 go
hang`)
	c, err := New(t.Context(), conn, Options{Name: "relay.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	body := io.MultiReader(strings.NewReader("half\r\n"), iotest.ErrReader(errors.New("disk")))
	out, err := c.Send(t.Context(), Transaction{From: "anna@example.com", Body: body, Recipients: []Recipient{{Address: "kurt@example.org"}}})
	if err == nil || out.BodySent || c.Usable() {
		t.Errorf("%+v, %v", out, err)
	}
	finish(t, done)
}

func TestGreetingsAndHellosThatRefuse(t *testing.T) {
	for _, tt := range []struct{ name, lines, step string }{
		{"554", "554 no mail here", "greeting"},
		{"421", "421 busy", "greeting"},
		{"EHLO 421", "220 mx\n<EHLO relay.example.com\n421 busy", "EHLO"},
		{"EHLO 450", "220 mx\n<EHLO relay.example.com\n450 not now", "EHLO"},
		{"EHLO and HELO 550", "220 mx\n<EHLO relay.example.com\n550 go away\n<HELO relay.example.com\n550 go away", "HELO"},
		{"another code at the end", "220-mx.example\n521 5.7.1 listed, see https://list.example", "greeting"},
		{"HELO 550", "220 mx\n<EHLO relay.example.com\n500 what\n<HELO relay.example.com\n550 go away", "HELO"},
	} {
		conn, _ := script(t, tt.lines)
		_, err := New(t.Context(), conn, Options{Name: "relay.example.com"})
		if re, ok := errors.AsType[*ReplyError](err); !ok || re.Step != tt.step {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestEveryRefusalOfEHLOIsFollowedByHELO(t *testing.T) {
	for _, code := range []string{"500", "501", "502", "503", "504", "521", "550", "554"} {
		c, _ := connect(t, "220 mx\n<EHLO relay.example.com\n"+code+" EHLO not here\n<HELO relay.example.com\n250 mx")
		if _, ok := c.Extension("PIPELINING"); ok || !c.Usable() {
			t.Errorf("after %s: %+v", code, c)
		}
	}
}

func read(in string) (Reply, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(in), keptLine))
}

func TestRepliesThatAreNone(t *testing.T) {
	for name, in := range map[string]string{
		"no code":           "hello\r\n",
		"code out of range": "650 what\r\n",
		"two digits":        "25 ok\r\n",
		"no separator":      "250ok\r\n",
		"endless line":      "250 " + strings.Repeat("x", 2*maxLine),
		"too many octets":   strings.Repeat("250-"+strings.Repeat("x", 60000)+"\r\n", 10) + "250 x\r\n",
		"too many lines":    strings.Repeat("250-x\r\n", maxLines) + "250 x\r\n",
	} {
		if r, err := read(in); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for _, in := range []string{"250 cut", "250 " + strings.Repeat("x", 10000), "250-a\r\n250 cut"} {
		if _, err := read(in); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.40q: %v", in, err)
		}
	}
}

func TestReplies(t *testing.T) {
	for in, want := range map[string]string{
		"250 ok\r\n":                           "250 ok",
		"250\r\n":                              "250",
		"550\t5.1.1 nobody\r\n":                `550\x095.1.1 nobody`,
		"250 ok\n":                             "250 ok",
		"250-a\r\n250-b\r\n250 c\r\n":          "250 a b c",
		"550 5.1.1 no\r\n":                     "550 5.1.1 no",
		"550-5.1.1 no\r\n550 5.1.1 really\r\n": "550 5.1.1 no really",
		"550 4.1.1 class\r\n":                  "550 4.1.1 class",
		// Codes that differ: the last one counts.
		"550-5.1.1 no such\r\n551 5.1.1 user\r\n":                               "551 5.1.1 no such user",
		"220-mx.example\r\n521 5.7.1 listed, see https://list.example\r\n":      "521 5.7.1 mx.example listed, see https://list.example",
		"450-4.2.0 grey\r\n550 5.1.1 no\r\n":                                    "550 5.1.1 grey no",
		"250-2.0.0 fine\r\n250-really\r\n451 but no\r\n":                        "451 fine really but no",
		"550-5.7.1 two lines,\r\nof which one has no code\r\n550 5.7.1 end\r\n": "550 5.7.1 two lines, of which one has no code end",
		// What people read stays, what a terminal would obey does not.
		"550 \x00\xff\x1b[31m\r\n":                                 `550 \x00\xff\x1b[31m`,
		"550 5.1.1 Der Empfänger ist unbekannt\r\n":                "550 5.1.1 Der Empfänger ist unbekannt",
		"550 5.1.1 受信者が見つかりません\r\n":                                "550 5.1.1 受信者が見つかりません",
		"550 Empf\xe4nger \u202egnp.exe\u0085\r\n":                 `550 Empf\xe4nger \xe2\x80\xaegnp.exe\xc2\x85`,
		"450 " + strings.Repeat("y", 900) + "\r\n":                 "450 " + strings.Repeat("y", 495) + "…",
		"450 " + strings.Repeat("ä", 900) + "\r\n":                 "450 " + strings.Repeat("ä", 495) + "…",
		"550 5.1.1 " + strings.Repeat("z", 6000) + "\r\n":          "550 5.1.1 " + strings.Repeat("z", 489) + "…",
		strings.Repeat("550-5.1.1 a\r\n", 150) + "551 5.1.1 b\r\n": "551 5.1.1 " + strings.Repeat("a ", 100)[:199],
	} {
		if r, err := read(in); err != nil || r.String() != want {
			t.Errorf("%.60q: %q, %v, want %q", in, r, err, want)
		}
	}
}

func TestAContextThatEndsEndsTheStep(t *testing.T) {
	conn, _ := script(t, "220 mx\nhang")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := New(ctx, conn, Options{Name: "r"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestASilentHostCostsOneTimeout(t *testing.T) {
	conn, _ := script(t, "hang")
	_, err := New(t.Context(), conn, Options{Name: "r", Timeouts: Timeouts{Greeting: 20 * time.Millisecond}})
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() || !strings.HasPrefix(err.Error(), "greeting: ") {
		t.Errorf("%v", err)
	}
}

// written is what goes out for a body, fed in pieces of n octets.
func written(t testing.TB, body []byte, n int) string {
	t.Helper()
	var b bytes.Buffer
	bw := bufio.NewWriter(&b)
	w := &bodyWriter{w: bw}
	for len(body) > 0 {
		k := min(n, len(body))
		if _, err := w.Write(body[:k]); err != nil {
			t.Fatal(err)
		}
		body = body[k:]
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	if err := bw.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBodies(t *testing.T) {
	for in, want := range map[string]string{
		"":                ".\r\n",
		"a":               "a\r\n.\r\n",
		"a\r\n":           "a\r\n.\r\n",
		".":               "..\r\n.\r\n",
		".\r\n.\r\n":      "..\r\n..\r\n.\r\n",
		"a\r\n.b":         "a\r\n..b\r\n.\r\n",
		"a\n.\nb":         "a\r\n..\r\nb\r\n.\r\n",
		"a\r.\rb":         "a\r\n..\r\nb\r\n.\r\n",
		"a\r\r\n.\r\r\nb": "a\r\n\r\n..\r\n\r\nb\r\n.\r\n",
		"\r\n\r\n":        "\r\n\r\n.\r\n",
		"a\r":             "a\r\n.\r\n",
		"\n":              "\r\n.\r\n",
		"a.\r\n":          "a.\r\n.\r\n",
	} {
		for n := 1; n <= 3; n++ {
			if got := written(t, []byte(in), n); got != want {
				t.Errorf("%q in pieces of %d: %q, want %q", in, n, got, want)
			}
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte("a\r\n.b\r\r\n.\n"), 2)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		out := written(t, body, 1+abs(n)%7)
		lines, ok := strings.CutSuffix(out, ".\r\n")
		if !ok || lines != "" && !strings.HasSuffix(lines, "\r\n") {
			t.Fatalf("%q ends wrongly", out)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(lines, "\r\n"), "\r\n") {
			if strings.ContainsAny(line, "\r\n") {
				t.Fatalf("%q has a bare newline", out)
			}
			if line == "." {
				t.Fatalf("%q ends early", out)
			}
		}
		plain := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(string(body))
		if plain != "" && !strings.HasSuffix(plain, "\r\n") {
			plain += "\r\n"
		}
		if got := strings.ReplaceAll("\r\n"+lines, "\r\n.", "\r\n"); got != "\r\n"+plain && !strings.Contains(plain, "\r\n.") {
			t.Fatalf("%q became %q", body, lines)
		}
	})
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250 5.1.1 b\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := readReply(bufio.NewReaderSize(bytes.NewReader(in), keptLine))
		if err == nil && (r.Code < 200 || r.Code > 599 || strings.ContainsAny(r.String(), "\r\n\x00") || !utf8.ValidString(r.String())) {
			t.Errorf("%q: %+v", in, r)
		}
	})
}

func BenchmarkBody(b *testing.B) {
	body := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 134))
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		w := &bodyWriter{w: bufio.NewWriterSize(io.Discard, 64<<10)}
		_, _ = w.Write(body)
		_ = w.end()
	}
}
