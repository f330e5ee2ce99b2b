package ingress

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAMessageIsQueuedWithItsTrace(t *testing.T) {
	d := newServer(t, nil)
	c := d.hello()
	c.startTLS()
	c.do("MAIL FROM:<Anna@Example.com> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=abc", "250 ")
	c.do(`RCPT TO:<"x y"@example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o@example.org`, "250 ")
	c.do("DATA", "354 ")
	c.send("Subject: hello\r\n\r\n..dot\r\n.\r\n")
	reply := c.want("250 2.0.0 queued as ")
	id := strings.TrimPrefix(reply, "250 2.0.0 queued as ")
	c.do("QUIT", "221 ")
	m, err := d.queue.Show(must(d.queue.Resolve(id)))
	if err != nil {
		t.Fatal(err)
	}
	r := m.Recipients[0]
	if m.From != "Anna@example.com" || r.Address != `"x y"@example.org` || r.Domain != "example.org" || !m.EightBit || m.Ret != "HDRS" || m.EnvID != "abc" ||
		strings.Join(r.Notify, ",") != "FAILURE,DELAY" || r.ORcpt != "RFC822;o@example.org" && r.ORcpt != "rfc822;o@example.org" || m.TLS != "TLS 1.3" || m.Client != "client.example [127.0.0.1]" {
		t.Errorf("%+v", m)
	}
	if m.MessageID != "<"+id+"@relay.example.com>" {
		t.Errorf("Message-ID %q", m.MessageID)
	}
	got := d.contents()[0]
	for _, want := range []string{"Received: from client.example ([127.0.0.1])\r\n\t(using TLS 1.3 with cipher ", "by relay.example.com with ESMTPS id " + id + "\r\n\tfor <\"x y\"@example.org>;", "Message-ID: <" + id + "@relay.example.com>\r\n", "\r\nDate: "} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if !strings.HasSuffix(got, "Subject: hello\r\n\r\n.dot\r\n") {
		t.Errorf("content %q", got)
	}
}

// What ends a message, and what only looks like it.
func TestNewlines(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"plain", "a\r\nb\r\n.\r\n", "a\r\nb\r\n"},
		{"bare LF", "a\nb\r\n.\r\n", "a\r\nb\r\n"},
		{"bare CR", "a\rb\r\n.\r\n", "a\r\nb\r\n"},
		{"LF . LF", "a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
		{"LF . CRLF", "a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
		{"CR . CR", "a\r.\rb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
		{"CR . CRLF", "a\r.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
		{"CRLF . LF", "a\r\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
		{"CRLF . CR", "a\r\n.\rb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
		{"CR CR LF . CR LF", "a\r\r\n.\r\n", "a\r\n\r\n"},
		{"LF MAIL smuggled", "a\n.\nMAIL FROM:<evil@example.com>\r\n.\r\n", "a\r\n.\r\nMAIL FROM:<evil@example.com>\r\n"},
		{"dots", "..\r\n...\r\n.a\r\n.\r\n", ".\r\n..\r\na\r\n"},
		{"stuffed dots behind LF", "..a\n..\n...\n..b\n.c\n.\n..\r\n.\r\n", ".a\r\n.\r\n..\r\n.b\r\n.c\r\n.\r\n.\r\n"},
		{"stuffed dots behind CR", "a\r..\r..b\r\n.\r\n", "a\r\n..\r\n..b\r\n"},
		{"a stuffed dot behind LF is no end", "a\n..\r\nMAIL FROM:<x@y>\r\n.\r\n", "a\r\n.\r\nMAIL FROM:<x@y>\r\n"},
		{"CR and a stuffed dot behind LF", "a\n.\r.\r\n.\r\n", "a\r\n.\r\n.\r\n"},
		{"empty lines", "\r\n\r\n.\r\n", "\r\n\r\n"},
		{"long line", strings.Repeat("x", 100_000) + "\r\n.\r\n", strings.Repeat("x", 100_000) + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newServer(t, func(o *Options) { o.Limits.LongLines = "pass" })
			for _, step := range []int{0, 1} { // at once, and octet by octet
				if step == 1 && len(tt.data) > 1000 {
					continue
				}
				c := d.hello()
				c.do("MAIL FROM:<a@example.com>", "250 ")
				c.do("RCPT TO:<b@example.org>", "250 ")
				c.do("DATA", "354 ")
				if step == 0 {
					c.send(headers + tt.data)
				} else {
					c.send(headers)
					for i := range len(tt.data) {
						c.send(tt.data[i : i+1])
					}
				}
				c.want("250 2.0.0 queued")
				c.do("NOOP", "250 ")
			}
			for _, got := range d.contents() {
				if body(got) != tt.want {
					t.Errorf("content %.100q, want %.100q", body(got), tt.want)
				}
			}
		})
	}
}

func TestBareNewlinesCanBeRefused(t *testing.T) {
	d := newServer(t, func(o *Options) { o.Limits.BareNewline = "reject" })
	for _, data := range []string{"a\nb\r\n.\r\n", "a\rb\r\n.\r\n", "a\r\r\n.\r\n"} {
		c := d.hello()
		c.do("MAIL FROM:<a@example.com>", "250 ")
		c.do("RCPT TO:<b@example.org>", "250 ")
		c.do("DATA", "354 ")
		c.send(headers + data)
		c.want("550 5.6.11 ")
		c.do("NOOP", "250 ")
	}
	c := d.hello()
	c.bdat("a\nb\r\n", "550 5.6.11 ")
	if got := d.contents(); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

func TestChunksAsExchangeSendsThem(t *testing.T) {
	d := newServer(t, func(o *Options) { o.Limits.LongLines = "pass" })
	c := d.hello()
	big := strings.Repeat(strings.Repeat("y", 5000)+"\r\n", 100)
	c.bdat(headers+big, "250 2.0.0 queued")
	c.bdat(headers+"bare\nlf\r\n", "250 2.0.0 queued")
	c.bdat(headers+".\r\nQUIT\r\n", "250 2.0.0 queued")
	// Several chunks, the last one empty, everything in one write.
	c.send("MAIL FROM:<a@example.com> BODY=8BITMIME\r\nRCPT TO:<b@example.org>\r\n")
	c.want("250 ")
	c.want("250 ")
	c.send(fmt.Sprintf("BDAT %d\r\n%sBDAT 5\r\nab\r\n.BDAT 0 LAST\r\n", len(headers), headers))
	c.want("250 ")
	c.want("250 ")
	c.want("250 2.0.0 queued")
	// RSET between chunks gives the message up.
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
	c.send("BDAT 4\r\nlost")
	c.want("250 ")
	c.do("RSET", "250 ")
	c.bdat(headers+"after\r\n", "250 2.0.0 queued")
	// A chunk that is refused is swallowed all the same.
	c.send("BDAT 6 LAST\r\nQUIT\r\n")
	c.want("503 ")
	c.do("NOOP", "250 ")
	var got []string
	for _, x := range d.contents() {
		got = append(got, body(x))
	}
	want := []string{big, "bare\r\nlf\r\n", ".\r\nQUIT\r\n", "ab\r\n.\r\n", "after\r\n"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%d messages; the last: %q", len(got), got[len(got)-1])
	}
}

func TestWhatBreaksOffInsideABodyIsNeverReadAsCommands(t *testing.T) {
	d := newServer(t, nil)
	for _, tail := range []string{"", "half a line", "MAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"} {
		c := d.hello()
		c.do("MAIL FROM:<a@example.com>", "250 ")
		c.do("RCPT TO:<b@example.org>", "250 ")
		c.do("DATA", "354 ")
		c.send(headers + tail)
		c.conn.(*net.TCPConn).CloseWrite()
		c.want("451 ")
		c.want("EOF")
	}
	c := d.hello()
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
	c.do("DATA", "354 ")
	c.send(headers + "a\x00b\r\n.\r\n")
	c.want("550 5.6.0 ")
	c.do("NOOP", "250 ")
	if got := d.contents(); len(got) > 0 {
		t.Errorf("queued: %q", got)
	}
}

func TestOrderOfCommands(t *testing.T) {
	d := newServer(t, nil)
	c := d.hello()
	c.do("RCPT TO:<b@example.org>", "503 ")
	c.do("DATA", "503 ")
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("MAIL FROM:<other@example.com>", "503 ")
	c.do("DATA", "503 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
	c.do("DATA", "354 ")
	c.send(headers + "x\r\n.\r\n")
	c.want("250 2.0.0 queued")
	m := d.messages()
	if len(m) != 1 || m[0].From != "a@example.com" {
		t.Errorf("%+v", m)
	}
	// Pipelined, with errors in it.
	c.send("MAIL FROM:<no domain>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
	for _, want := range []string{"501 ", "503 ", "503 ", "250 ", "250 ", "250 ", "354 "} {
		c.want(want)
	}
	c.send(headers + "y\r\n.\r\n")
	c.want("250 2.0.0 queued")
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Options)
		play   func(*testServer, *raw)
	}{
		{"size at MAIL", func(o *Options) { o.Limits.MessageSize = 1000 }, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@example.com> SIZE=1001", "552 5.3.4 ")
		}},
		{"size while reading", func(o *Options) { o.Limits.MessageSize = 1000 }, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@example.com>", "250 ")
			c.do("RCPT TO:<b@example.org>", "250 ")
			c.do("DATA", "354 ")
			c.send(headers + strings.Repeat("x\r\n", 1000) + ".\r\n")
			c.want("552 5.3.4 ")
			c.do("NOOP", "250 ")
		}},
		{"recipients", func(o *Options) { o.Limits.Recipients = 2 }, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@example.com>", "250 ")
			c.do("RCPT TO:<b@example.org>", "250 ")
			c.do("RCPT TO:<c@example.org>", "250 ")
			c.do("RCPT TO:<d@example.org>", "452 4.5.3 ")
		}},
		{"hops", func(o *Options) { o.Limits.Hops = 3 }, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@example.com>", "250 ")
			c.do("RCPT TO:<b@example.org>", "250 ")
			c.do("DATA", "354 ")
			c.send(strings.Repeat("Received: x\r\n", 3) + headers + ".\r\n")
			c.want("554 5.4.6 ")
		}},
		{"rate", func(o *Options) { o.Limits.Rate = 1 }, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@example.com>", "250 ")
			c.do("RSET", "250 ")
			c.do("MAIL FROM:<a@example.com>", "450 4.7.1 ")
		}},
		{"refusals", nil, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@example.com>", "250 ")
			for range maxRefusals - 1 {
				c.do("MAIL FROM:<b@example.com>", "503 ")
			}
			c.do("MAIL FROM:<b@example.com>", "421 ")
			c.want("EOF")
		}},
		{"command line", nil, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<"+strings.Repeat("a", 3000)+"@example.com>", "500 ")
			c.want("EOF")
		}},
		{"command line without an end", nil, func(_ *testServer, c *raw) {
			c.send(strings.Repeat("a", 20_000))
			c.want("500 ")
		}},
		{"long lines refused", func(o *Options) { o.Limits.LongLines = "reject" }, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@example.com>", "250 ")
			c.do("RCPT TO:<b@example.org>", "250 ")
			c.do("DATA", "354 ")
			c.send(headers + strings.Repeat("x", 999) + "\r\n.\r\n")
			c.want("550 5.6.0 ")
		}},
		{"connections", func(o *Options) { o.Limits.Connections = 1 }, func(d *testServer, _ *raw) {
			d.dial().want("421 4.7.0 ")
		}},
		{"connections of one client", func(o *Options) { o.Limits.ConnectionsPerClient = 1 }, func(d *testServer, c *raw) {
			d.dial().want("421 4.7.0 ")
			c.do("QUIT", "221 ")
		}},
		{"REQUIRETLS in clear", nil, func(_ *testServer, c *raw) { c.do("MAIL FROM:<a@example.com> REQUIRETLS", "530 ") }},
		{"TLS demanded", func(o *Options) { o.Listeners[0].RequireTLS = true }, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@example.com>", "530 5.7.0 ")
			c.startTLS()
			c.do("MAIL FROM:<a@example.com>", "250 ")
		}},
		{"sender domains", func(o *Options) { o.Listeners[0].SenderDomains = []string{"example.com"} }, func(_ *testServer, c *raw) {
			c.do("MAIL FROM:<a@other.example>", "550 5.7.1 ")
			c.do("MAIL FROM:<a@Example.COM>", "250 ")
		}},
		{"idle", func(o *Options) { o.Limits.Idle = 30 * time.Millisecond }, func(_ *testServer, c *raw) { c.want("421 4.4.2 ") }},
		{"session time", func(o *Options) { o.Limits.SessionTime = 30 * time.Millisecond }, func(_ *testServer, c *raw) { c.want("421 4.4.2 ") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newServer(t, tt.change)
			tt.play(d, d.hello())
			if n := len(d.messages()); n > 0 {
				t.Errorf("%d messages are queued", n)
			}
		})
	}
}

func TestShutdownLetsAMessageEndAndRefusesNewSessions(t *testing.T) {
	d := newServer(t, nil)
	idle, busy := d.hello(), d.hello()
	busy.do("MAIL FROM:<a@example.com>", "250 ")
	busy.do("RCPT TO:<b@example.org>", "250 ")
	busy.do("DATA", "354 ")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.server.Shutdown(ctx) }()
	idle.want("421 4.3.2 ")
	idle.want("EOF")
	d.dial().want("421 4.3.2 ")
	busy.send(headers + "x\r\n.\r\n")
	busy.want("250 2.0.0 queued")
	busy.want("421 4.3.2 ")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(d.messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestAFullDiskIsTemporary(t *testing.T) {
	dir := t.TempDir()
	var free atomic.Int64
	free.Store(1 << 40)
	st, err := badger.Open(badger.Options{Dir: dir, Free: func(string) (int64, error) { return free.Load(), nil }, FreeSpace: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(queue.Options{Store: st, Paused: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { q.Close(); _ = st.Close() }()
	d := newServer(t, func(o *Options) {
		o.Queue.Close() // the test server's own is not used here
		o.Queue = q
	})
	c := d.hello()
	free.Store(1 << 29)
	c.do("MAIL FROM:<a@example.com>", "452 4.3.1 ")
	free.Store(1 << 40)
	c.do("MAIL FROM:<a@example.com>", "250 ")
}

// A message of which the store does not know whether it was written is not accepted, and
// the session goes on.
func TestAnUnknownOutcomeIsTemporary(t *testing.T) {
	var place memory.Place
	st := place.Open()
	q, err := queue.Open(queue.Options{Store: st, Paused: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { q.Close(); _ = st.Close() }()
	d := newServer(t, func(o *Options) {
		o.Queue.Close() // that of the test server is not used here
		o.Queue = q
	})
	c := d.hello()
	for _, row := range []struct {
		lost  bool
		reply string
		count int
	}{{false, "250 ", 1}, {true, "451 4.3.0 ", 1}, {false, "250 ", 2}} { // the first one behind what the queue writes as it starts
		c.do("MAIL FROM:<a@example.com>", "250 ")
		c.do("RCPT TO:<b@example.org>", "250 ")
		c.do("DATA", "354 ")
		if row.lost {
			place.LoseAnswer(true)
		}
		c.do("Subject: x\r\n\r\ntext\r\n.", row.reply)
		if n := q.Counts().Messages; n != row.count {
			t.Errorf("%d messages after %q", n, row.reply)
		}
	}
}
