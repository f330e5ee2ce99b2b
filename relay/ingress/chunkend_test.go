package ingress

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// A session that ends inside a message queues nothing of it, however it ends; a
// message that was refused between its chunks can still be given up (RFC 5321,
// 4.1.1.5).
func TestAMessageInChunksThatDoesNotEnd(t *testing.T) {
	const chunk = "Date: x\r\n\r\nx\r\n"
	for _, tt := range []struct {
		name   string
		change func(*Options)
		end    func(c *raw)
	}{
		{"QUIT", nil, func(c *raw) { c.do("QUIT", "221 ") }},
		{"too long a command", nil, func(c *raw) { c.do(strings.Repeat("x", maxCommand), "500 ") }},
		{"the client goes away", nil, func(c *raw) { c.conn.Close() }},
		{"no command for too long", func(o *Options) { o.Limits.Idle = 50 * time.Millisecond }, func(c *raw) { c.want("4") }},
		{"too many commands that bring nothing", nil, func(c *raw) {
			for range maxFruitless {
				c.do("NOOP", "250 ")
			}
			c.want("4")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newServer(t, tt.change)
			c := d.hello()
			c.do("MAIL FROM:<a@example.com>", "250 ")
			c.do("RCPT TO:<b@example.org>", "250 ")
			c.send(fmt.Sprintf("BDAT %d\r\n%s", len(chunk), chunk))
			c.want("250 ")
			tt.end(c)
			d.sessions(0)
			if got := d.contents(); len(got) != 0 {
				t.Errorf("queued: %q", got)
			}
		})
	}
	t.Run("RSET behind a refused chunk", func(t *testing.T) {
		d := newServer(t, nil)
		c := d.hello()
		c.do("MAIL FROM:<a@example.com>", "250 ")
		c.do("RCPT TO:<b@example.org>", "250 ")
		c.send("BDAT 4\r\nx\x00\r\n")
		c.want("250 ")
		c.do("RSET", "250 ")
		if got := c.message("DATA", headers+"x\r\n"); !strings.HasPrefix(got, "250 ") {
			t.Error(got)
		}
		if got := d.contents(); len(got) != 1 {
			t.Errorf("queued: %q", got)
		}
	})
}

// A chunk is content, whatever becomes of its BDAT: its lines are no commands, also where
// nobody can say how long it is.
func TestLinesOfAChunkAreNoCommands(t *testing.T) {
	const smuggled = "RSET\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n" + headers + "evil\r\n.\r\nQUIT\r\n"
	for _, args := range []string{"18446744073709551616 LAST", "x", "", "-1", "+5 LAST", "0x10", "10 LAST x", "10 LAST LAST", "10 FIRST", "1e3"} {
		for _, before := range []string{"", "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n", "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 3\r\nx\r\n"} {
			var log logged
			d := newServer(t, func(o *Options) { o.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
			c := d.hello()
			c.send(before + "BDAT " + args + "\r\n" + smuggled)
			for range strings.Count(before, "\r\n") - strings.Count(before, "\nx") {
				c.want("250 ")
			}
			c.want("501 5.5.4 ")
			c.want("EOF")
			d.sessions(0)
			if got := d.contents(); len(got) != 0 {
				t.Errorf("%q BDAT %s: queued %q", before, args, got)
			}
			if got := strings.Count(log.String(), `"msg":"refused"`); got != 1 && !strings.Contains(before, "BDAT") {
				t.Errorf("%q BDAT %s: %d refusals in the log\n%s", before, args, got, log.String())
			}
		}
	}
	// A size over 32 bits is one: the chunk is skipped.
	d := newServer(t, nil)
	c := d.hello()
	c.send("BDAT 4294967296 LAST\r\n" + smuggled)
	c.want("503 5.5.1 ")
	_ = c.conn.(*net.TCPConn).CloseWrite()
	c.want("EOF")
	if got := d.contents(); len(got) != 0 {
		t.Errorf("queued %q", got)
	}
}
