package ingress

import (
	"fmt"
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
