package happyeyeballs

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeConn is a connection that knows whether it was closed.
type fakeConn struct {
	net.Conn
	to     string
	mu     sync.Mutex
	closed bool
}

func (c *fakeConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// behaviour of an address: how long a dial takes, and whether it works.
type behaviour struct {
	after time.Duration
	err   error
}

func TestTheRaceOfAddresses(t *testing.T) {
	refused, never := errors.New("refused"), time.Hour
	for _, tt := range []struct {
		name  string
		world []behaviour
		won   int
		took  time.Duration
		tried int
	}{
		{"the first answers", []behaviour{{0, nil}, {0, nil}}, 0, 0, 1},
		{"the first is slow within its head start", []behaviour{{200 * time.Millisecond, nil}, {0, nil}}, 0, 200 * time.Millisecond, 1},
		{"the first hangs", []behaviour{{never, nil}, {10 * time.Millisecond, nil}}, 1, HeadStart + 10*time.Millisecond, 2},
		{"the first refuses at once", []behaviour{{0, refused}, {10 * time.Millisecond, nil}}, 1, 10 * time.Millisecond, 2},
		{"the first is slower but first", []behaviour{{300 * time.Millisecond, nil}, {100 * time.Millisecond, nil}}, 0, 300 * time.Millisecond, 2},
		{"three of four hang", []behaviour{{never, nil}, {never, nil}, {never, nil}, {0, nil}}, 3, 3 * HeadStart, 4},
		{"all refuse", []behaviour{{0, refused}, {0, refused}}, -1, 0, 2},
		{"all hang", []behaviour{{never, nil}, {never, nil}}, -1, 30*time.Second + HeadStart, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var conns []*fakeConn
				var mu sync.Mutex
				var list []netip.AddrPort
				for i := range tt.world {
					list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 25))
				}
				dial := func(ctx context.Context, _, address string) (net.Conn, error) {
					i := slices.Index(list, netip.MustParseAddrPort(address))
					select {
					case <-time.After(tt.world[i].after):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if tt.world[i].err != nil {
						return nil, tt.world[i].err
					}
					c := &fakeConn{to: address}
					mu.Lock()
					defer mu.Unlock()
					conns = append(conns, c)
					return c, nil
				}
				start := time.Now()
				r, err := Dial(t.Context(), list, 30*time.Second, dial)
				conn, won, tried := r.Conn, r.Index, r.Tried
				if took := time.Since(start); took != tt.took || tried != tt.tried {
					t.Errorf("took %s and %d addresses", took, tried)
				}
				if tt.won < 0 {
					if err == nil {
						t.Fatal("no error")
					}
					return
				}
				if err != nil || won != tt.won || conn.(*fakeConn).to != list[won].String() {
					t.Fatalf("won %d, %v", won, err)
				}
				for _, c := range conns {
					if c.closed == (c == conn) {
						t.Errorf("the connection to %s: closed %t", c.to, c.closed)
					}
				}
			})
		})
	}
}
