package ingress

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

// A session ends after refusals in a row that are for good. What a client that
// behaves well meets, a full message or a bad address in a list, ends none.
func TestRefusalsThatEndNoSession(t *testing.T) {
	message := func(c *raw, refused ...string) {
		t.Helper()
		c.do("MAIL FROM:<a@example.com>", "250 ")
		c.do("RCPT TO:<b@example.org>", "250 ")
		for i, code := range refused {
			to := fmt.Sprintf("r%d@example.org", i)
			if code[0] == '5' {
				to = "r@-bad-.example"
			}
			c.do("RCPT TO:<"+to+">", code)
		}
		c.do("DATA", "354 ")
		c.send(headers + ".\r\n")
		c.want("250 ")
	}
	t.Run("recipients beyond the most", func(t *testing.T) {
		d := newServer(t, func(o *Options) { o.Limits.Recipients = 1 })
		c := d.hello()
		for range 2 {
			message(c, slices.Repeat([]string{"452 4.5.3 "}, 2*maxRefusals)...)
		}
	})
	t.Run("bad recipients", func(t *testing.T) {
		c := newServer(t, nil).hello()
		for range 3 {
			message(c, slices.Repeat([]string{"501 5.1.3 "}, maxRefusals-1)...)
		}
	})
	t.Run("more bad recipients", func(t *testing.T) {
		d := newServer(t, func(o *Options) { o.Limits.Recipients = 2 * maxFruitless })
		c := d.hello()
		for range 2 {
			message(c, slices.Repeat([]string{"501 5.1.3 "}, 2*maxFruitless)...)
		}
		// One list cannot be longer without end.
		c.do("MAIL FROM:<a@example.com>", "250 ")
		for range 2*maxFruitless + maxRefusals - 1 {
			c.do("RCPT TO:<r@-bad-.example>", "501 5.1.3 ")
		}
		c.do("RCPT TO:<r@-bad-.example>", "421 4.7.0 ")
		c.want("EOF")
	})
	t.Run("a rate", func(t *testing.T) {
		now := newClock()
		d := newServer(t, func(o *Options) { o.Now, o.Limits.Rate = now.now, 1 })
		c := d.hello()
		message(c)
		for range 2 * maxRefusals {
			c.do("MAIL FROM:<a@example.com>", "450 4.7.1 ")
		}
		now.move(time.Minute)
		message(c)
	})
	t.Run("a refusal a message", func(t *testing.T) {
		c := newServer(t, nil).hello()
		for range 2 * maxRefusals {
			c.do("MAIL FROM:<a@-bad-.example>", "501 5.1.7 ")
			message(c)
		}
	})
}

// clock is a wall clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// logged collects a log.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Whoever refuses, go-smtp or we: there is one line about it.
func TestEveryRefusalIsInTheLogOnce(t *testing.T) {
	var log logged
	d := newServer(t, func(o *Options) {
		o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		o.Limits.MessageSize, o.Limits.Recipients, o.Limits.ConnectionsPerClient = 64<<10, 1, 1
	})
	c := d.hello()
	var want []string
	for _, x := range []struct{ line, reply string }{
		{"MAIL FROM:<a@example.com> SIZE=999999", "552 5.3.4 "},
		{"RCPT TO:<b@example.org>", "503 5.5.1 "},
		{"MAIL FROM:<a@no domain>", "501 "},
		{"BDAT 0", "503 5.5.1 "},
		{"MAIL FROM:<a@example.com>", "250 "},
		{"MAIL FROM:<a@example.com>", "503 5.5.1 "},
		{"RCPT TO:<b@example.org>", "250 "},
		{"RCPT TO:<c@example.org>", "452 4.5.3 "},
		{"STARTTLS now", "501 5.5.4 "},
		{"MAIL FROM:<" + strings.Repeat("a", 2000) + "@example.com>", "500 5.5.6 "},
	} {
		got := c.do(x.line, x.reply)
		if got[0] != '2' {
			want = append(want, got[:3])
		}
	}
	var lines []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, `"msg":"refused"`) {
			lines = append(lines, line)
		}
	}
	if len(lines) != len(want) {
		t.Fatalf("%d refusals, and %d lines:\n%s", len(want), len(lines), strings.Join(lines, ""))
	}
	for i, w := range want {
		if !strings.Contains(lines[i], `"reply":"`+w) || !strings.Contains(lines[i], `"client":"127.0.0.1"`) {
			t.Errorf("refusal %s: %s", w, lines[i])
		}
	}
}

func TestRateOfClientsAndUsers(t *testing.T) {
	now := newClock()
	d := newServer(t, func(o *Options) {
		o.Now, o.Limits.Rate = now.now, 2
		o.Listeners[0].Auth = true
		o.Listeners[0].ProxyFrom = loopback
		o.Listeners[0].Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	})
	send := func(from, user, want string) {
		t.Helper()
		c := d.dial()
		c.send("PROXY TCP4 " + from + " 127.0.0.1 1 25\r\n")
		c.want("220 ")
		c.do("EHLO x", "250 ")
		if user != "" {
			c.startTLS()
			c.do("AUTH PLAIN "+plain("exchange", "secret"), "235 ")
		}
		c.do("MAIL FROM:<a@example.com>", want)
		c.conn.Close()
	}
	send("10.0.0.1", "", "250 ")
	send("10.0.0.1", "", "250 ")
	send("10.0.0.1", "", "450 4.7.1 ")
	// A user has one rate, from whatever address.
	send("192.0.2.1", "exchange", "250 ")
	send("192.0.2.2", "exchange", "250 ")
	send("192.0.2.3", "exchange", "450 4.7.1 ")
	now.move(time.Minute)
	send("10.0.0.1", "", "250 ")
	send("192.0.2.3", "exchange", "250 ")
}

func TestUsersHaveTheirSenderDomains(t *testing.T) {
	d := newServer(t, func(o *Options) {
		o.Listeners[0].Auth = true
		o.Users = func(_ context.Context, name, _ string) (User, bool) {
			return User{Name: name, SenderDomains: []string{"example.com"}}, true
		}
	})
	c := d.hello()
	c.do("MAIL FROM:<a@other.example>", "250 ") // by its network
	c.do("RSET", "250 ")
	c.startTLS()
	c.do("AUTH PLAIN "+plain("scanner", "x"), "235 ")
	c.do("MAIL FROM:<a@other.example>", "550 5.7.1 the user scanner may not send as other.example")
	c.do("MAIL FROM:<a@sub.example.com>", "550 5.7.1 ")
	c.do("MAIL FROM:<>", "250 ")
	c.do("RSET", "250 ")
	c.do("MAIL FROM:<a@EXAMPLE.com>", "250 ")
}

// Wrong passwords: after some of them, an address gets one try at a time, on
// however many connections, and whether or not it waits for the answers. Right
// ones from elsewhere go through.
func TestABrakeOnPasswords(t *testing.T) {
	now, checked := newClock(), 0
	var mu sync.Mutex
	d := newServer(t, func(o *Options) {
		o.Now, o.Listeners[0].Auth = now.now, true
		o.Listeners[0].ProxyFrom = loopback
		o.Limits.AuthDelay = time.Millisecond
		o.Users = func(_ context.Context, name, password string) (User, bool) {
			mu.Lock()
			defer mu.Unlock()
			checked++
			return User{Name: name}, password == "secret"
		}
	})
	try := func(from, password, want string) {
		t.Helper()
		c := d.dial()
		family := "TCP4"
		if strings.Contains(from, ":") {
			family = "TCP6"
		}
		to := map[string]string{"TCP4": "127.0.0.1", "TCP6": "::1"}[family]
		c.send(fmt.Sprintf("PROXY %s %s %s 1 25\r\n", family, from, to))
		c.want("220 ")
		c.do("EHLO x", "250 ")
		c.startTLS()
		c.do("AUTH PLAIN "+plain("exchange", password), want)
		c.conn.Close()
	}
	for i := range freeFailures {
		try(fmt.Sprintf("2001:db8::%d", i+1), "wrong", "535 5.7.8 ") // one network of IPv6, many addresses
	}
	for i := range 20 {
		try(fmt.Sprintf("2001:db8::f%d", i), "secret", "454 4.7.0 ")
	}
	mu.Lock()
	if checked != freeFailures {
		t.Errorf("%d passwords were looked at", checked)
	}
	mu.Unlock()
	try("192.0.2.7", "secret", "235 ")
	now.move(50 * time.Millisecond) // past the delay of the sixth
	try("2001:db8::5", "wrong", "535 ")
	try("2001:db8::5", "secret", "454 ")
	now.move(maxAuthDelay)
	try("2001:db8::5", "secret", "235 ")
	try("2001:db8::5", "wrong", "535 ") // and all is forgotten
	try("2001:db8::5", "secret", "235 ")
}

// Bodies that trickle end, by their rate or by the time of a session.
func TestBodiesThatTrickleEnd(t *testing.T) {
	for _, tt := range []struct {
		name    string
		started time.Duration
		octets  int64
		ends    bool
	}{
		{"young", 30 * time.Second, 10, false},
		{"slow", 2 * time.Minute, 100, true},
		{"steady", 2 * time.Minute, 1 << 20, false},
		{"steady for hours", 3 * time.Hour, 1 << 30, true},
	} {
		a, b := net.Pipe()
		d := &Server{}
		d.rules.Store(&Options{Limits: Limits{}.withDefaults()})
		c := &conn{Conn: a, server: d, content: content{started: time.Now().Add(-tt.started), octets: tt.octets}}
		if err := c.bodyDeadline(); (err != nil) != tt.ends {
			t.Errorf("%s: %v", tt.name, err)
		}
		a.Close()
		b.Close()
	}
}

// A command that comes octet by octet has no more time than one that comes at
// once; a client that never makes its handshake is counted.
func TestSlowClients(t *testing.T) {
	d := newServer(t, func(o *Options) { o.Limits.Idle = 100 * time.Millisecond })
	c := d.dial()
	c.want("220 ")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				if _, err := c.conn.Write([]byte("x")); err != nil {
					return
				}
			}
		}
	}()
	c.want("421 4.4.2 ")
	close(stop)
	<-done

	d = newServer(t, func(o *Options) {
		o.Listeners[0].TLS = "implicit"
		o.Limits.ConnectionsPerClient = 1
	})
	silent := d.dial()
	defer silent.conn.Close()
	d.sessions(1) // it is counted before it has said anything
	c = d.dial()
	c.secure()
	c.want("421 4.7.0 ")
}

func TestHeaders(t *testing.T) {
	const date, id = "From: <x@example.com>\r\nDate: Mon, 23 Nov 2026 08:00:00 +0100\r\n", "Message-ID: <x@example.com>\r\n"
	ours := "Received: from b by relay.example.com with ESMTP id 1; x\r\n"
	for _, tt := range []struct {
		name    string
		headers Headers
		in      string
		want    string // below our own trace line
		adds    bool   // a Date and a Message-ID
	}{
		{"complete", Headers{}, date + id + "\r\nbody\r\n", date + id + "\r\nbody\r\n", false},
		{"lower case", Headers{}, "from: a@b.example\r\ndate: x\r\nmessage-id : y\r\n\r\n", "from: a@b.example\r\ndate: x\r\nmessage-id : y\r\n\r\n", false},
		{"none", Headers{}, "Subject: x\r\n\r\nDate: in the body\r\n", "Subject: x\r\n\r\nDate: in the body\r\n", true},
		{"no header at all", Headers{}, "Hello, this is the scanner.\r\nBye\r\n", "\r\nHello, this is the scanner.\r\nBye\r\n", true},
		{"empty header", Headers{}, "\r\nbody\r\n", "\r\nbody\r\n", true},
		{"empty", Headers{}, "", "", true},
		{"empty fields", Headers{}, "From:\r\nDate: \r\nSubject:\r\nMessage-ID:\r\n \r\n\r\nbody\r\n", "Subject:\r\n\r\nbody\r\n", true},
		{"an mbox line", Headers{}, "From root@copier Mon Jan  1 00:00:00 2024\r\n" + date + id + "\r\nFrom me\r\n", date + id + "\r\nFrom me\r\n", false},
		{"a quoted mbox line", Headers{}, ">From root@copier Mon Jan  1 00:00:00 2024\r\n" + date + id + "\r\n", date + id + "\r\n", false},
		{"an mbox line below", Headers{}, "X-A: b\r\nFrom root@copier Mon Jan  1 00:00:00 2024\r\n" + date + id + "\r\n", "X-A: b\r\n" + date + id + "\r\n", false},
		{"a text that begins like one", Headers{}, "From next week on: nothing.\r\nBye\r\n\r\nX-A: b\r\n", "\r\nFrom next week on: nothing.\r\nBye\r\n\r\nX-A: b\r\n", true},
		{"one in a text behind fields", Headers{}, id + "Dear Bob,\r\nFrom today: a\r\nX: y\r\n\r\n", id + "Dear Bob,\r\nFrom today: a\r\nX: y\r\n\r\n", true},
		{"one that ends the header", Headers{}, date + id + "From today on\r\n\r\nx\r\n", date + id + "From today on\r\n\r\nx\r\n", false},
		{"two mbox lines", Headers{}, ">From a Mon Jan  1 00:00:00 2024\r\nFrom b Mon Jan  1 00:00:00 2024\r\n" + date + id + "\r\n", date + id + "\r\n", false},
		{"a From with a blank", Headers{}, "From : x@example.com\r\n" + id + "\r\n", "From : x@example.com\r\n" + id + "\r\n", true},
		{"folded lookalike", Headers{}, "Subject: x\r\n Date: y\r\n" + date + id + "\r\n", "Subject: x\r\n Date: y\r\n" + date + id + "\r\n", false},
		{"strip", Headers{Strip: []string{"X-Secret", "x-ms-*"}}, "X-MS-A: 1\r\n\t2\r\n" + date + "x-secret: 3\r\n\r\n X-Secret-Not: 4\r\nX-Secretary: 5\r\n", date + "\r\n X-Secret-Not: 4\r\nX-Secretary: 5\r\n", true},
		{"hide", Headers{HideInternalHops: true}, "Received: from a by b;\r\n\tx\r\n" + date + ours + id + "\r\n", date + ours + id + "\r\n", false},
		{"keep", Headers{}, "Received: from a by b;\r\n\tx\r\n" + date + id + "\r\n", "Received: from a by b;\r\n\tx\r\n" + date + id + "\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newServer(t, func(o *Options) { o.Headers = tt.headers })
			if got := d.hello().message("DATA", tt.in); !strings.HasPrefix(got, "250 ") {
				t.Fatal(got)
			}
			got := d.contents()[0]
			own := 0
			for field := range mailheader.Fields([]byte(got)) {
				if own == 0 && !strings.HasPrefix(string(field), "Received: from client.example ") {
					t.Fatalf("%q", got)
				}
				added := strings.HasPrefix(string(field), "Message-ID: <01") || string(field) == "From: <a@example.com>\r\n" || strings.HasPrefix(string(field), "Date: ") && !strings.Contains(tt.in, date)
				if own > 0 && !added {
					break
				}
				own += len(field)
			}
			if got[own:] != tt.want {
				t.Errorf("%q, want %q", got[own:], tt.want)
			}
			if adds := strings.Contains(got, "Message-ID: <01"); adds != (tt.adds && !strings.Contains(tt.in, id)) {
				t.Errorf("added %t: %q", adds, got)
			}
		})
	}
}

// A loop is found although the relay removes what others have noted.
func TestALoopIsFoundWhereHopsAreHidden(t *testing.T) {
	d := newServer(t, func(o *Options) { o.Headers.HideInternalHops, o.Limits.Hops = true, 5 })
	content := headers + "x\r\n"
	for n := range 10 {
		got := d.hello().message("DATA", content)
		if strings.HasPrefix(got, "554 5.4.6 ") {
			if n < 4 {
				t.Errorf("refused after %d rounds", n)
			}
			return
		}
		all := d.contents()
		content = "Received: from relay.example.com by elsewhere.example; x\r\n" + all[len(all)-1]
	}
	t.Error("it runs on")
}
