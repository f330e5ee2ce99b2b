package ingress

import (
	"strings"
	"testing"
)

// lines are those of one reply.
func (c *raw) lines() (out []string) {
	c.t.Helper()
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		out = append(out, strings.TrimSpace(line))
		if line[3] == ' ' {
			return out
		}
	}
}

func TestTheReplyToHelloBeginsWithTheServersName(t *testing.T) {
	c := newServer(t, nil).dial()
	c.want("220 relay.example.com ")
	for _, tt := range []struct{ line, first string }{
		{"HELO client.example", "250 relay.example.com greets you"},
		{"EHLO client.example", "250-relay.example.com greets you"},
	} {
		c.send(tt.line + "\r\n")
		if got := c.lines(); got[0] != tt.first || strings.Contains(strings.Join(got, " "), "client.example") {
			t.Errorf("%s: %q", tt.line, got)
		}
	}
	c.do("EHLO", "250 ")
	c.do("NOOP", "250 2.0.0 ok")
}

// What is wrong with AUTH is said in the order in which a client can mend it.
func TestRepliesToAuth(t *testing.T) {
	for _, tt := range []struct {
		name   string
		auth   bool
		secure bool
		want   string
	}{
		{"no AUTH, in clear", false, false, "503 "},
		{"no AUTH, over TLS", false, true, "503 "},
		{"AUTH, in clear", true, false, "538 "},
		{"AUTH, over TLS", true, true, "501 5.5.2 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newServer(t, func(o *Options) { o.Listeners[0].Auth = tt.auth }).hello()
			if tt.secure {
				c.startTLS()
			}
			c.do("AUTH PLAIN x", tt.want)
			c.do("auth plain x", tt.want)
			c.do("AUTH", "501 5.5.4 ")
			if tt.auth && tt.secure {
				c.do("AUTH LOGIN", "334 ")
				c.do("x", "501 5.5.2 ")
			}
		})
	}
}

// The size that is offered, the one that MAIL may declare and the one that the
// content may have are one, before and after a reload.
func TestTheLimitOfSizesFollowsAReload(t *testing.T) {
	d := newServer(t, func(o *Options) { o.Limits.MessageSize = 1000 })
	c := d.hello()
	for _, limit := range []struct{ most, offer, above string }{
		{"1000", "250 SIZE 1000", "1001"},
		{"70000", "250 SIZE 70000", "70001"},
		{"8589934592", "250 SIZE 8589934592", "8589934593"},
		{"1000", "250 SIZE 1000", "4294967296"},
		{"1000", "250 SIZE 1000", "18446744073709551616"},
	} {
		o := *d.server.rules.Load()
		sized := parseArgs("<> SIZE=" + limit.most)
		o.Limits.MessageSize = sized.size()
		d.server.Update(o)
		if got := c.do("EHLO client.example", "250 "); got != limit.offer {
			t.Errorf("offered: %q, want %q", got, limit.offer)
		}
		c.do("MAIL FROM:<a@example.com> SIZE="+limit.above+" BODY=8BITMIME", "552 5.3.4 ")
		if limit.most == "8589934592" {
			continue // the disk may be smaller
		}
		c.do("MAIL FROM:<a@example.com> size="+limit.most, "250 ")
		c.do("RCPT TO:<b@example.org>", "250 ")
		c.do("DATA", "354 ")
		c.send(headers + strings.Repeat("0123456789\r\n", 100) + ".\r\n")
		if limit.most == "1000" {
			c.want("552 5.3.4 ")
		} else {
			c.want("250 ")
		}
	}
	if got := d.messages(); len(got) != 1 {
		t.Errorf("%d messages are queued", len(got))
	}
}
