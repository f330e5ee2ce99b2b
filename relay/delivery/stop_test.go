package delivery

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
)

// A handshake that ends because the relay stops is no failure of the host, and
// is not reported to its owner as one.
func TestAHandshakeThatTheRelayBreaksOffIsNotCounted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		for _, reply := range []string{"220 mx", "250-mx\r\n250 STARTTLS", "220 go"} {
			_, _ = io.WriteString(c, reply+"\r\n")
			if reply != "220 go" {
				_, _ = br.ReadString('\n')
			}
		}
		_, _ = br.Peek(1) // the handshake has begun
		stop()
		_, _ = io.Copy(io.Discard, br)
	}()
	d := New(Options{Hostname: "relay.example.com"})
	a := &attempt{d: d, settings: d.settings.Load(), claim: &queue.Claim{Domain: "a.example"}, to: outbound.Destination{PolicyDomain: "a.example"}}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, f := a.openOn(ctx, &hostTry{req: &security.Requirement{Domain: "a.example", Host: "mx.a.example"}, key: "mx.a.example"}, conn, netip.MustParseAddrPort(l.Addr().String()))
	if f == nil || len(a.record.sessions) > 0 {
		t.Errorf("failure %v, sessions %+v", f, a.record.sessions)
	}
}
