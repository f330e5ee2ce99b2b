// Package happyeyeballs connects to a host by the first of its addresses that
// answers (RFC 8305). An address that does not answer costs a quarter of a second.
package happyeyeballs

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// HeadStart is the time after which the next address is tried beside the one before
// (RFC 8305, 5).
const HeadStart = 250 * time.Millisecond

// Result is the result of Dial.
type Result struct {
	// Conn is the connection and Index the position of its address.
	Conn  net.Conn
	Index int
	// Tried is the number of addresses that were dialed, Failed the positions of those
	// that failed before one answered.
	Tried  int
	Failed []bool
}

// dialed is an address and the result of dialing it.
type dialed struct {
	index int
	conn  net.Conn
	err   error
}

// Dial connects to the first of addrs that answers, with a head start for each
// before the next. Each gets the timeout. The error is those of all; Tried is
// set then too.
func Dial(ctx context.Context, addrs []netip.AddrPort, timeout time.Duration, dial func(ctx context.Context, network, address string) (net.Conn, error)) (Result, error) {
	out := Result{Failed: make([]bool, len(addrs))}
	if len(addrs) == 0 {
		return out, errors.New("no address")
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan dialed)
	var running sync.WaitGroup
	defer func() {
		cancel()
		go func() { running.Wait(); close(results) }()
		for r := range results { // connections that came too late
			if r.conn != nil {
				r.conn.Close()
			}
		}
	}()
	start := func() {
		i := out.Tried
		out.Tried++
		running.Go(func() {
			dialCtx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			c, err := dial(dialCtx, "tcp", addrs[i].String())
			results <- dialed{i, c, err}
		})
	}
	start()
	next := time.NewTimer(HeadStart)
	defer next.Stop()
	var errs []error
	for open := 1; open > 0; {
		select {
		case <-next.C:
			if out.Tried < len(addrs) {
				start()
				open++
				next.Reset(HeadStart)
			}
		case r := <-results:
			if r.err == nil {
				out.Conn, out.Index = r.conn, r.index
				return out, nil
			}
			open--
			out.Failed[r.index] = true
			errs = append(errs, r.err)
			if out.Tried < len(addrs) {
				start()
				open++
				next.Reset(HeadStart)
			}
		}
	}
	return out, errors.Join(errs...)
}

// Interleave puts addresses into the order in which they are tried: the families
// in turn, IPv6 first (RFC 8305, 4).
func Interleave(addrs []netip.Addr) []netip.Addr {
	var v6, v4 []netip.Addr
	for _, a := range addrs {
		if a.Unmap().Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	out := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(v6), len(v4)) {
		if i < len(v6) {
			out = append(out, v6[i])
		}
		if i < len(v4) {
			out = append(out, v4[i])
		}
	}
	return out
}
