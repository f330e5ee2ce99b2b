package ingress

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
)

// Clients that go away are refused nothing: neither log nor metrics say so.
func TestAProbeIsNoRefusal(t *testing.T) {
	reset := func(c *raw) {
		_ = c.conn.(*net.TCPConn).SetLinger(0)
		c.close()
	}
	for _, proxied := range []bool{false, true} {
		for name, probe := range map[string]func(c *raw){
			"reset at once":       reset,
			"closed at once":      func(c *raw) { c.close() },
			"reset after 220":     func(c *raw) { c.want("220 "); reset(c) },
			"closed after 220":    func(c *raw) { c.want("220 "); c.close() },
			"reset after EHLO":    func(c *raw) { c.want("220 "); c.do("EHLO x", "250 "); reset(c) },
			"reset within a line": func(c *raw) { c.want("220 "); c.send("EHL"); reset(c) },
			"reset with replies on the way": func(c *raw) {
				c.want("220 ")
				c.send("EHLO x\r\nNOOP\r\nMAIL FROM:<a@example.com>\r\nRSET\r\nNOOP\r\n")
				reset(c)
			},
		} {
			t.Run(fmt.Sprintf("%s, proxied %t", name, proxied), func(t *testing.T) {
				var log logged
				var mu sync.Mutex
				refused := 0
				d := newServer(t, func(o *Options) {
					if proxied {
						o.Listeners[0].ProxyFrom = loopback
					}
					o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
					o.Refused = func(*Refusal) { mu.Lock(); defer mu.Unlock(); refused++ }
				})
				for range 5 {
					c := d.dial()
					if proxied && name != "reset at once" && name != "closed at once" {
						c.send("PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n")
					}
					probe(c)
				}
				c := d.dial() // has its turn behind them
				if proxied {
					c.send("PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n")
				}
				c.want("220 ")
				c.close()
				d.sessions(0)
				mu.Lock()
				defer mu.Unlock()
				if refused > 0 || log.String() != "" {
					t.Errorf("%d refusals\n%s", refused, log.String())
				}
			})
		}
	}
}

// However many passwords come at once, the free ones are few; a right one among
// many sessions of one server does not suffer.
func TestManyPasswordsAtOnce(t *testing.T) {
	for _, tt := range []struct {
		password string
		looked   int
	}{{"wrong", freeFailures}, {"secret", 50}} {
		t.Run(tt.password, func(t *testing.T) {
			now := newClock()
			var mu sync.Mutex
			looked, sent := 0, make(chan struct{})
			d := newServer(t, func(o *Options) {
				o.Listeners[0].Auth, o.Listeners[0].Allow, o.Now = true, nil, now.now
				o.Users = func(_ context.Context, name, password string) (User, bool) {
					<-sent // the others come meanwhile
					mu.Lock()
					defer mu.Unlock()
					looked++
					return User{Name: name}, password == "secret"
				}
			})
			clients := make([]*raw, 50)
			for i := range clients {
				clients[i] = d.hello()
				clients[i].startTLS()
			}
			for _, c := range clients {
				c.send("AUTH PLAIN " + plain("exchange", tt.password) + "\r\n")
			}
			close(sent)
			got := make(map[string]int)
			for _, c := range clients {
				got[c.reply()[:4]]++
			}
			if looked != tt.looked {
				t.Errorf("%d passwords were looked at, want %d: %v", looked, tt.looked, got)
			}
			if tt.password == "secret" && got["235 "] != len(clients) {
				t.Errorf("%v", got)
			}
		})
	}
}

// The check of a password takes time, and strangers can ask for many. A client that is
// known does not wait behind them.
func TestAKnownClientDoesNotWaitBehindThePasswordsOfStrangers(t *testing.T) {
	entered, release := make(chan bool, 10), make(chan bool)
	d := behindBalancer(t, func(o *Options) {
		o.Users = func(_ context.Context, name, password string) (User, bool) {
			if password == "secret" {
				return User{Name: name}, true
			}
			entered <- true
			<-release
			return User{}, false
		}
	})
	t.Cleanup(func() { close(release) })
	login := func(address, password string) *raw {
		c := d.from(address)
		c.want("220 ")
		c.do("EHLO x", "250 ")
		c.startTLS()
		c.send("AUTH PLAIN " + plain("exchange", password) + "\r\n")
		return c
	}
	login("198.51.100.1", "secret").want("235 ")
	for i := range 5 {
		login(fmt.Sprintf("192.0.2.%d", i+1), "wrong")
	}
	<-entered
	for i := range 5 { // the others wait for their turn
		turn := d.server.turnOf(netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1)))
		await.Until(t, "a password that waits", func() bool { return len(turn) > 0 })
	}
	c := login("198.51.100.1", "secret")
	_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	c.want("235 ")
}

// A stranger that waits for the check of its password keeps its session no longer than one
// that is silent, and is not told that the password is wrong: nobody has looked at it.
func TestAStrangerDoesNotWaitWithoutEndForACheck(t *testing.T) {
	for _, address := range []string{"192.0.2.1", "192.0.2.2"} { // for its turn, for the check
		entered, release := make(chan bool, 2), make(chan bool)
		d := behindBalancer(t, func(o *Options) {
			o.Limits.ProofTime = 3 * time.Second
			o.Users = func(_ context.Context, name, _ string) (User, bool) {
				entered <- true
				<-release
				return User{Name: name}, true
			}
		})
		login := func(address string) *raw {
			c := d.from(address)
			c.want("220 ")
			c.do("EHLO x", "250 ")
			c.startTLS()
			c.send("AUTH PLAIN " + plain("exchange", "secret") + "\r\n")
			return c
		}
		first := login("192.0.2.1")
		<-entered
		c := login(address)
		_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		got, end := c.reply(), c.reply()
		close(release)
		if !strings.HasPrefix(got, "454 4.7.0 ") || !strings.HasPrefix(end, "421 4.7.0 ") {
			t.Errorf("%s: %q, then %q", address, got, end)
		}
		first.want("235 ")
	}
}

func TestAGatewayIsNamed(t *testing.T) {
	var log logged
	d := behindBalancer(t, func(o *Options) {
		o.Gateways = []netip.Addr{netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("fe80::1%eth0")}
		o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	})
	c := d.from("172.17.0.1")
	c.want("220 ")
	c.do("EHLO x", "250 ")
	c.do("MAIL FROM:<a@example.com>", "530 5.7.0 172.17.0.1 is the gateway of this machine or container")
	c.startTLS()
	if got := c.do("MAIL FROM:<a@example.com>", "550 5.7.1 172.17.0.1 is the gateway of this machine or container"); len(got) > 510 || strings.Contains(got, "add it to allow") {
		t.Error(got)
	}
	c = d.from("172.17.0.2")
	c.want("220 ")
	c.do("EHLO x", "250 ")
	c.do("MAIL FROM:<a@example.com>", "530 5.7.0 172.17.0.2 is not in a network that may send here")
	var named, others int
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, `"client":"172.17.0.1","gateway":true`) {
			named++
		} else if strings.Contains(line, `"gateway"`) {
			others++
		}
	}
	if named != 2 || others != 0 {
		t.Error(log.String())
	}
}

// The log line of a refusal has its status and the sender, whoever refuses.
func TestARefusalIsLoggedWithStatusAndSender(t *testing.T) {
	var log logged
	d := newServer(t, func(o *Options) {
		o.Listeners[0].SenderDomains = []string{"example.com"}
		o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	})
	c := d.hello()
	for _, tt := range []struct{ line, reply, status, from string }{
		{"MAIL FROM:<a@other.example>", "550 5.7.1 ", "5.7.1", "a@other.example"},
		{"MAIL FROM:<a@example.com> COLOUR=red", "555 5.5.4 ", "5.5.4", "a@example.com"},
		{"MAIL FROM:<a@-bad-.example>", "501 5.1.7 ", "5.1.7", "a@-bad-.example"},
		{"MAIL FROM:<b@example.com> SIZE=99999999999", "552 5.3.4 ", "5.3.4", "b@example.com"},
		{"RCPT TO:<b@example.org>", "503 5.5.1 ", "5.5.1", "b@example.com"},
		{"MAIL FROM:<c@example.com> BODY=8BITMIME", "250 ", "", ""},
		{"RCPT TO:<b@-bad-.example>", "501 5.1.3 ", "5.1.3", "c@example.com"},
		{"MAIL FROM:<d@example.com>", "503 5.5.1 ", "5.5.1", "d@example.com"},
		{"RSET", "250 ", "", ""},
		{"DATA", "503 5.5.1 ", "5.5.1", ""},
	} {
		c.do(tt.line, tt.reply)
		if tt.status == "" {
			continue
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		var got struct{ Msg, Client, From, Status, Reply string }
		if err := json.NewDecoder(bytes.NewReader([]byte(lines[len(lines)-1]))).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Msg != "refused" || got.Client != "127.0.0.1" || got.From != tt.from || got.Status != tt.status || !strings.HasPrefix(got.Reply, tt.reply) {
			t.Errorf("%s: %+v", tt.line, got)
		}
	}
}
