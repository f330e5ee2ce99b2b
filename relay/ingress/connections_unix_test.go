//go:build unix

package ingress

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// 5,000 connections at once: those within the limits are served, the others are
// told so, and the relay goes on answering.
func TestFiveThousandConnections(t *testing.T) {
	const many, served = 5000, 2000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const need = 2*many + 500
	if limit.Cur < need {
		raised := limit
		raised.Cur, raised.Max = need, max(limit.Max, need)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
			t.Skipf("%d open files are needed, and %d allowed: %v", need, limit.Max, err)
		}
		defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) }()
	}
	d := newServer(t, func(o *Options) { o.Limits.Connections, o.Limits.ConnectionsPerClient = served, many })
	clients := make([]*raw, many)
	var open []*raw
	refused := 0
	for i := range clients {
		clients[i] = d.dial()
		_ = clients[i].conn.SetDeadline(time.Now().Add(time.Minute))
	}
	for _, c := range clients {
		switch got := c.reply(); got[:4] {
		case "220 ":
			open = append(open, c)
		case "421 ":
			refused++
			c.conn.Close()
		default:
			t.Fatalf("greeting %q", got)
		}
	}
	if len(open) != served || refused != many-served {
		t.Errorf("%d served, %d refused", len(open), refused)
	}
	for _, c := range open {
		c.do("NOOP", "250 ")
	}
	c := open[served/2]
	c.do("EHLO x", "250 ")
	if got := c.message("DATA", headers+"x\r\n"); !strings.HasPrefix(got, "250 2.0.0 queued") {
		t.Errorf("%s", got)
	}
	for _, c := range open {
		c.conn.Close()
	}
	d.sessions(0)
	d.hello().do("QUIT", "221 ")
}
