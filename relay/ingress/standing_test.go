package ingress

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
)

// behindBalancer makes a server to which a client may come from any address.
func behindBalancer(t *testing.T, change func(*Options)) *testServer {
	return newServer(t, func(o *Options) {
		o.Listeners[0].ProxyFrom = loopback
		o.Listeners[0].Auth = true
		o.Listeners[0].Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
		if change != nil {
			change(o)
		}
	})
}

// from connects as a client of an address.
func (d *testServer) from(addr string) *raw {
	d.t.Helper()
	c := d.dial()
	c.send("PROXY TCP4 " + addr + " 127.0.0.1 1 25\r\n")
	return c
}

func (c *raw) close() { c.conn.Close() }

// sessions waits until so many are open.
func (d *testServer) sessions(n int) {
	d.t.Helper()
	await.Until(d.t, fmt.Sprintf("%d open sessions", n), func() bool { return d.server.Sessions() == n })
}

func TestStrangersKeepNobodyOut(t *testing.T) {
	const limit = 10
	d := behindBalancer(t, func(o *Options) { o.Limits.Connections = limit })
	login := func(c *raw) {
		t.Helper()
		c.do("EHLO x", "250 ")
		c.startTLS()
		c.do("AUTH PLAIN "+plain("exchange", "secret"), "235 ")
	}
	stranger := 0
	next := func() string { stranger++; return fmt.Sprintf("192.0.2.%d", stranger) }

	// A client that has logged in is known when it comes again.
	c := d.from("198.51.100.1")
	c.want("220 ")
	login(c)
	c.do("QUIT", "221 ")
	d.sessions(0)

	held := make([]*raw, limit/2)
	for i := range held {
		held[i] = d.from(next())
		held[i].want("220 ")
	}
	for range 3 {
		d.from(next()).want("421 4.7.0 relay.example.com has too many connections of clients that it does not know")
	}
	known, allowed := d.from("198.51.100.1"), d.from("10.0.0.5")
	known.want("220 ")
	allowed.want("220 ")
	allowed.do("EHLO x", "250 ")
	if got := allowed.message("DATA", headers+"x\r\n"); !strings.HasPrefix(got, "250 ") {
		t.Error(got)
	}

	// A client that logs in makes room for another stranger; so does one that leaves.
	login(held[0])
	d.from(next()).want("220 ")
	d.from(next()).want("421 ")
	held[1].close()
	d.sessions(limit/2 + 2)
	d.from(next()).want("220 ")
	d.from(next()).want("421 ")

	// All the sessions there are may be those of clients that may send.
	for n := limit - d.server.Sessions(); n > 0; n-- {
		d.from("10.0.0.6").want("220 ")
	}
	d.from("10.0.0.7").want("421 4.7.0 relay.example.com has too many connections;")
}

func TestAnAddressIsKnownForAWeek(t *testing.T) {
	now := newClock()
	d := behindBalancer(t, func(o *Options) { o.Limits.Connections, o.Now = 2, now.now })
	c := d.from("198.51.100.1")
	c.want("220 ")
	c.do("EHLO x", "250 ")
	c.startTLS()
	c.do("AUTH PLAIN "+plain("exchange", "secret"), "235 ")
	c.close()
	d.sessions(0)
	d.from("192.0.2.1").want("220 ")
	now.move(knownMemory)
	c = d.from("198.51.100.1")
	c.want("220 ")
	c.close()
	d.sessions(1)
	now.move(time.Second)
	d.from("198.51.100.1").want("421 ")
}

// A stranger has a while to show its right to send, whatever it does meanwhile.
func TestStrangersAreClosed(t *testing.T) {
	const proof = time.Second
	const overdue = "421 4.7.0 no right to send was shown within"
	trickle := func(c *raw, text string) {
		done := make(chan struct{})
		t.Cleanup(func() { c.close(); <-done })
		go func() {
			defer close(done)
			for {
				if _, err := c.conn.Write([]byte(text)); err != nil {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		}()
	}
	d := behindBalancer(t, func(o *Options) { o.Limits.ProofTime = proof })
	implicit := behindBalancer(t, func(o *Options) { o.Limits.ProofTime, o.Listeners[0].TLS = proof, "implicit" })
	rows := []struct {
		name string
		do   func(c *raw)
		want string
	}{
		{"silent", func(*raw) {}, overdue},
		{"after EHLO", func(c *raw) { c.do("EHLO x", "250 ") }, overdue},
		{"octet by octet", func(c *raw) { trickle(c, "N") }, overdue},
		{"over TLS", func(c *raw) { c.do("EHLO x", "250 "); c.startTLS() }, overdue},
		{"after a wrong password", func(c *raw) {
			c.do("EHLO x", "250 ")
			c.startTLS()
			c.do("AUTH PLAIN "+plain("exchange", "wrong"), "535 ")
		}, overdue},
		{"in the middle of AUTH", func(c *raw) {
			c.do("EHLO x", "250 ")
			c.startTLS()
			c.do("AUTH LOGIN", "334 ")
		}, overdue},
		{"a handshake that never comes", func(c *raw) { c.do("STARTTLS", "220 ") }, "EOF"},
		{"a chunk that is refused and never ends", func(c *raw) {
			c.do("EHLO x", "250 ")
			c.send("BDAT 4000000000 LAST\r\n")
			c.want("503 ")
			trickle(c, strings.Repeat("x", 100))
		}, "421 "},
	}
	// All at once: their time runs from the connection on.
	clients, began := make([]*raw, len(rows)), make([]time.Time, len(rows))
	for i, row := range rows {
		began[i] = time.Now()
		clients[i] = d.from(fmt.Sprintf("192.0.2.%d", i+1))
		clients[i].want("220 ")
		row.do(clients[i])
	}
	neverTLS := implicit.from("192.0.2.1")
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c := clients[i]
			c.t = t
			c.want(row.want)
			c.want("EOF")
			if took := time.Since(began[i]); took < proof || took > 20*proof {
				t.Errorf("it took %s", took)
			}
		})
	}
	t.Run("implicit TLS that never comes", func(t *testing.T) {
		neverTLS.t = t
		neverTLS.want("EOF")
		implicit.sessions(0)
	})
	d.sessions(0)
}

// Those who may send have their time, by address or by AUTH.
func TestWhoMaySendIsNotClosed(t *testing.T) {
	d := behindBalancer(t, func(o *Options) { o.Limits.ProofTime = 500 * time.Millisecond })
	own, user, stranger := d.from("10.0.0.5"), d.from("192.0.2.1"), d.from("192.0.2.2")
	for _, c := range []*raw{own, user, stranger} {
		c.want("220 ")
		c.do("EHLO x", "250 ")
	}
	user.startTLS()
	user.do("AUTH PLAIN "+plain("exchange", "secret"), "235 ")
	stranger.want("421 4.7.0 ")
	for _, c := range []*raw{own, user} {
		if got := c.message("DATA", headers+"x\r\n"); !strings.HasPrefix(got, "250 ") {
			t.Error(got)
		}
	}
}

func TestCommandsThatBringNothingEndASession(t *testing.T) {
	const farewell = "421 4.7.0 too many commands that bring nothing"
	message := func(c *raw) {
		t.Helper()
		if got := c.message("DATA", headers+"x\r\n"); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
	}
	for _, tt := range []struct{ name, line, reply string }{
		{"NOOP", "NOOP", "250 "}, {"RSET", "RSET", "250 "}, {"VRFY", "VRFY x", "252 "}, {"EHLO again", "EHLO x", "250 "},
		{"HELO again", "HELO x", "250 "}, {"RCPT without MAIL", "RCPT TO:<b@example.org>", "503 "}, {"DATA without MAIL", "DATA", "503 "},
		{"BDAT without MAIL", "BDAT 0 LAST", "503 "}, {"HELP", "HELP", "502 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newServer(t, nil).hello()
			for range maxFruitless - 1 {
				c.do(tt.line, tt.reply)
			}
			message(c) // and all is well
			for range maxFruitless {
				c.do(tt.line, tt.reply)
			}
			c.want(farewell)
			c.want("EOF")
		})
	}
	t.Run("pipelined", func(t *testing.T) {
		c := newServer(t, nil).hello()
		c.send(strings.Repeat("NOOP\r\nRSET\r\n", 1000))
		for range maxFruitless {
			c.want("250 ")
		}
		c.want(farewell)
	})
	t.Run("transactions that are given up", func(t *testing.T) {
		c := newServer(t, nil).hello()
		for range maxFruitless {
			c.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRSET\r\n")
			c.want("250 ")
			c.want("250 ")
			c.want("250 ")
		}
		c.want(farewell)
	})
	t.Run("empty chunks", func(t *testing.T) {
		c := newServer(t, nil).hello()
		c.do("MAIL FROM:<a@example.com>", "250 ")
		c.do("RCPT TO:<b@example.org>", "250 ")
		for range maxFruitless {
			c.do("BDAT 0", "250 ")
		}
		c.want(farewell)
		c.want("EOF")
	})
	t.Run("nothing follows a goodbye", func(t *testing.T) {
		c := newServer(t, nil).hello()
		c.do("MAIL FROM:<a@example.com>", "250 ")
		c.do("RCPT TO:<b@example.org>", "250 ")
		c.do("BDAT 0", "250 ")
		c.do("QUIT", "221 ")
		c.want("EOF")
	})
	t.Run("a list of a thousand recipients is no waste", func(t *testing.T) {
		c := newServer(t, func(o *Options) { o.Limits.Recipients = 300 }).hello()
		c.do("MAIL FROM:<a@example.com>", "250 ")
		for i := range 1000 {
			want := "250 "
			if i >= 300 {
				want = "452 4.5.3 "
			}
			c.do(fmt.Sprintf("RCPT TO:<b%d@example.org>", i), want)
		}
		c.do("DATA", "354 ")
		c.send(headers + ".\r\n")
		c.want("250 ")
		for range 200 {
			message(c)
		}
	})
}

func TestFirstWordsOfOtherProtocols(t *testing.T) {
	hello := func() string { // what a client that wants TLS at once sends
		a, b := net.Pipe()
		defer b.Close()
		go func() { _ = tls.Client(a, &tls.Config{ServerName: "relay.example.com"}).Handshake(); a.Close() }()
		p := make([]byte, 4096)
		n, _ := b.Read(p)
		return string(p[:n])
	}()
	for _, tt := range []struct {
		first string
		ends  bool
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true},
		{"get /\r\n", true},
		{"POST /x HTTP/1.1\r\nContent-Length: 30\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.c>\r\n", true},
		{"HEAD / HTTP/1.0\r\n", true},
		{"MKCOL / HTTP/1.1\r\n", true},
		{"CONNECT mail.example:25 HTTP/1.1\r\n", true},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true},
		{"OPTIONS sip:nm SIP/2.0\r\n", true},
		{"SSH-2.0-OpenSSH_9.2\r\n", true},
		{"Host: relay.example.com\r\n", true},
		{"{\"jsonrpc\":\"2.0\"}\n", true},
		{"*1\r\n$4\r\nPING\r\n", true},
		{"A001 LOGIN a b\r\n", true},
		{hello, true},
		{hello[:1], true},
		{"\x80\x2e\x01\x03\x01", true},
		{"\x00", true},
		{"\x03\x00\x00\x13\x0e", true},
		{"\xff\xfb\x01", true},
		{"EHLO x\r\n", false},
		{"helo x\r\n", false},
		{"NOOP\r\n", false},
		{"\r\nEHLO x\r\n", false},
		{"GETT /\r\n", false}, // only an unknown command
		{"QUIT\r\n", false},
	} {
		t.Run(fmt.Sprintf("%.12q", tt.first), func(t *testing.T) {
			d := newServer(t, nil)
			c := d.dial()
			c.want("220 ")
			c.send(tt.first)
			got := c.reply()
			if ended := strings.HasPrefix(got, "421 4.7.0 ") || got == "EOF"; ended != tt.ends {
				t.Fatal(got)
			}
			if tt.ends {
				if got != "EOF" { // a reset may overtake the reply
					c.want("EOF")
				}
				d.sessions(0)
			}
		})
	}
	t.Run("over TLS", func(t *testing.T) {
		d := newServer(t, nil)
		c := d.hello()
		c.do("STARTTLS", "220 ")
		c.secure()
		c.do("GET / HTTP/1.1", "421 4.7.0 ")
		c.want("EOF")
	})
}

// What was said in clear counts no more over TLS (RFC 3207, 4.2), and the last
// EHLO counts (RFC 5321, 4.1.4).
func TestTheStateOfEHLO(t *testing.T) {
	received := func(d *testServer) string {
		t.Helper()
		all := d.contents()
		return all[len(all)-1]
	}
	d := newServer(t, nil)
	c := d.dial()
	c.want("220 ")
	c.do("EHLO clear.example", "250 ")
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("STARTTLS", "220 ")
	c.secure()
	for _, line := range []string{"MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "DATA", "AUTH PLAIN x", "BDAT 8 LAST\r\nQUIT\r\n"} {
		c.do(line, "503 5.5.1 ")
	}
	c.do("NOOP", "250 ")
	c.do("RSET", "250 ")
	c.do("MAIL FROM:<a@example.com>", "503 5.5.1 EHLO comes first")
	c.do("EHLO inside.example", "250 ")
	c.message("DATA", headers+"x\r\n")
	if got := received(d); !strings.HasPrefix(got, "Received: from inside.example ") || strings.Contains(got, "clear.example") || !strings.Contains(got, " with ESMTPS ") {
		t.Errorf("%.200q", got)
	}
	c.do("EHLO third.example", "250 ")
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("HELO fourth.example", "250 ") // a RSET
	c.do("RCPT TO:<b@example.org>", "503 ")
	c.message("DATA", headers+"x\r\n")
	if got := received(d); !strings.HasPrefix(got, "Received: from fourth.example ") || !strings.Contains(got, " with SMTP ") {
		t.Errorf("%.200q", got)
	}
	if m := d.messages(); !strings.HasPrefix(m[0].Client, "inside.example ") {
		t.Errorf("%+v", m[0])
	}
}
