package delivery

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// silentAttempt opens a session on a connection whose far end says what is given and
// then nothing, and returns what came of it.
func silentAttempt(t *testing.T, d *Delivery, said string) (failed chan *attemptError) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { far.Close() })
	go func() {
		_, _ = io.WriteString(far, said)
		_, _ = io.Copy(io.Discard, far)
	}()
	failed = make(chan *attemptError, 1)
	a := &attempt{d: d, settings: d.settings.Load(), claim: &queue.Claim{Domain: "a.example"}, to: outbound.Destination{PolicyDomain: "a.example"}}
	go func() {
		ctx := a.hold.begin(t.Context(), &d.places)
		defer a.hold.end()
		_, f := a.openOn(ctx, &hostTry{req: &security.Requirement{Domain: "a.example", Host: "mx.a.example"}, key: "mx.a.example"}, near, netip.MustParseAddrPort("192.0.2.1:25"))
		failed <- f
	}()
	return failed
}

// While places are short, a silent host is given half a minute, also where the wait
// began before; else as long as RFC 5321, 4.5.3.2 says.
func TestSilenceIsShortWhilePlacesAre(t *testing.T) {
	for _, tt := range []struct{ name, said string }{
		{"greeting", ""}, {"half a greeting", "220-mx.a.example\r\n"}, {"EHLO", "220 mx.a.example\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := New(Options{Hostname: "relay.example.com"})
				start := time.Now()
				failed := silentAttempt(t, d, tt.said)
				time.Sleep(silentHello)
				d.places.reclaim(time.Now())
				synctest.Wait()
				select {
				case f := <-failed:
					t.Fatalf("it was cut too early: %v", f)
				default:
				}
				time.Sleep(time.Second)
				d.places.reclaim(time.Now())
				f := <-failed
				if took := time.Since(start); took != silentHello+time.Second {
					t.Errorf("it ended after %s", took)
				}
				if f == nil || !f.domainWide || !f.overload || f.reason == failure.Internal {
					t.Errorf("%+v", f)
				}
			})
		})
	}
	t.Run("places are not short", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := New(Options{Hostname: "relay.example.com"})
			start := time.Now()
			<-silentAttempt(t, d, "")
			if took := time.Since(start); took != 5*time.Minute {
				t.Errorf("it ended after %s", took)
			}
		})
	})
}

// A host that says a little now and then holds a place no longer than others.
func TestAPlaceIsHeldForALimitedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p places
		var h hold
		ctx := h.begin(t.Context(), &p)
		defer h.end()
		near, far := net.Pipe()
		defer far.Close()
		conn := listenTo(near)
		go func() {
			for b := make([]byte, 1); ; {
				if _, err := conn.Read(b); err != nil {
					return
				}
			}
		}()
		h.waits(conn, silentHello)
		start := time.Now()
		for ctx.Err() == nil {
			_, _ = far.Write([]byte("2"))
			time.Sleep(time.Second)
			p.reclaim(time.Now())
		}
		if took := time.Since(start); took != longestHold+time.Second || !errors.Is(context.Cause(ctx), errReclaimed) {
			t.Errorf("it ended after %s: %v", took, context.Cause(ctx))
		}
		near.Close()
	})
}

// Behind the content nothing is cut, and the time counts anew.
func TestContentKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p places
		var h hold
		ctx := h.begin(t.Context(), &p)
		near, far := net.Pipe()
		defer far.Close()
		conn := listenTo(near)
		h.waits(conn, silentEnvelope)
		h.sends()
		h.sent()
		time.Sleep(time.Hour)
		p.reclaim(time.Now())
		h.waits(conn, silentEnvelope)
		time.Sleep(silentEnvelope)
		p.reclaim(time.Now())
		if ctx.Err() != nil || conn.isCut.Load() {
			t.Fatal("it was cut")
		}
		time.Sleep(time.Second)
		p.reclaim(time.Now())
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read says %v", err)
		}
		h.end()
		if len(p.holds) != 0 {
			t.Error("the place is not given back")
		}
	})
}

// slowHost takes one message at conn, at rate octets a second, and thinks about it before it answers.
func slowHost(conn net.Conn, rate int, thinks time.Duration) {
	r := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, "220 mx.a.example\r\n")
	for _, reply := range []string{"250 mx.a.example", "250 ok", "250 ok", "354 go"} {
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		_, _ = io.WriteString(conn, reply+"\r\n")
	}
	for end := []byte(nil); string(end) != "\r\n.\r\n"; {
		b, err := r.ReadByte()
		if err != nil {
			return
		}
		time.Sleep(time.Second / time.Duration(rate))
		end = append(end[max(len(end)-4, 0):], b)
	}
	time.Sleep(thinks)
	_, _ = io.WriteString(conn, "250 taken\r\n")
}

// While places are short, a host must read content at some rate. Once it has all of it, it
// may think as long as RFC 5321, 4.5.3.2.6 says.
func TestContentIsReadAtSomeRateWhilePlacesAreShort(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rate  int
		short bool
		taken bool
		most  time.Duration
	}{
		{"slow", 250, true, false, 4 * longestHold},
		{"slow, and places are not short", 250, false, true, 2 * time.Hour},
		{"hardly at all", 1, true, false, longestHold + time.Second},
		{"fast enough", 2 * leastRate, true, true, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p places
				var h hold
				ctx := h.begin(t.Context(), &p)
				near, far := net.Pipe()
				var others sync.WaitGroup
				others.Go(func() { slowHost(far, tt.rate, 9*time.Minute) })
				others.Go(func() {
					for tt.short && ctx.Err() == nil {
						time.Sleep(time.Second)
						p.reclaim(time.Now())
					}
				})
				conn := listenTo(near)
				h.waits(conn, silentEnvelope)
				c, err := smtpclient.New(ctx, conn, smtpclient.Options{Name: "relay.example.com"})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				out, err := c.Send(ctx, smtpclient.Transaction{
					From: "a@b.example", Recipients: []smtpclient.Recipient{{Address: "c@a.example"}},
					Body:    content{strings.NewReader(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 15000)), &h},
					Content: func() context.Context { h.sends(); return t.Context() },
				})
				took := time.Since(start)
				if out.Final.OK() != tt.taken || (err == nil) != tt.taken || took > tt.most {
					t.Errorf("after %s: %v, %+v", took, err, out.Final)
				}
				if !tt.taken && (!errors.Is(err, errSlow) || out.BodySent) {
					t.Errorf("%v, the whole content was sent: %t", err, out.BodySent)
				}
				h.end()
				_ = c.Close()
				others.Wait()
			})
		})
	}
}

func TestAHostIsBoundedByItsAddressToo(t *testing.T) {
	at := func(s string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(s)} }
	now := time.Now()
	p := newPool()
	reserve := func(key, addr string) (*reservation, error) { return p.reserve(key, at(addr), limitOf(2), now) }
	var held []*reservation
	for _, name := range []string{"a", "b"} {
		r, err := reserve(name, "192.0.2.1:25")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
	}
	for _, tt := range []struct {
		what, addr string
		full       bool
	}{
		{"the same address", "192.0.2.1:25", true},
		{"another port", "192.0.2.1:26", true},
		{"mapped into IPv6", "[::ffff:192.0.2.1]:25", true},
		{"the next address", "192.0.2.2:25", false},
	} {
		r, err := reserve("c", tt.addr)
		if _, busy := errors.AsType[*errBusy](err); busy != tt.full {
			t.Errorf("%s: %v", tt.what, err)
		}
		if r != nil {
			r.end(now)
		}
	}
	// Of several addresses, those that have places.
	r, err := p.reserve("c", append(at("192.0.2.1:25"), at("192.0.2.3:25")...), limitOf(2), now)
	if err != nil || len(r.at) != 1 || r.at[0] != at("192.0.2.3:25")[0] {
		t.Errorf("%+v, %v", r, err)
	}
	r.end(now)
	// A name that took mail lately does not stand behind those that did not.
	p.onSuccess("good", time.Second)
	for range 2 * provenTimes {
		if _, err := reserve("good", "192.0.2.1:25"); err != nil {
			t.Fatalf("a host that takes mail: %v", err)
		}
	}
	if _, err := reserve("good", "192.0.2.1:25"); err == nil {
		t.Error("hosts that take mail have no bound")
	}
	held[0].end(now)
	if _, err := reserve("c", "192.0.2.1:25"); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	for _, addr := range []string{"[2001:db8::1]:25", "[2001:db8::2]:25"} {
		if _, err := reserve("v6", addr); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := reserve("v6", "[2001:db8::3]:25"); err == nil {
		t.Error("one IPv6 network has any number of sessions")
	}
	if _, err := reserve("v6", "[2001:db8:0:1::3]:25"); err != nil {
		t.Errorf("the next network: %v", err)
	}
}

// What finds no place comes back one after the other, and later the longer places
// are held.
func TestWhatFindsNoPlaceComesBackLater(t *testing.T) {
	now := time.Now()
	a := new(address)
	if b := a.turnAway(10, now); b.wait != minBusy {
		t.Errorf("the first comes back after %s", b.wait)
	}
	a.held = 30 * time.Second
	var last time.Duration
	for range 10 {
		b := a.turnAway(10, now)
		if b.wait <= last {
			t.Errorf("%s after %s", b.wait, last)
		}
		last = b.wait
	}
	for range 1000 {
		last = a.turnAway(10, now).wait
	}
	if last != maxBusy {
		t.Errorf("the last comes back after %s", last)
	}
}

// An idle session at a full address makes room.
func TestAnIdleSessionAtTheAddressMakesRoom(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		_, _ = io.WriteString(far, "220 mx\r\n")
		for lines := bufio.NewScanner(far); lines.Scan(); {
			_, _ = io.WriteString(far, "250 mx\r\n")
		}
	}()
	client, err := smtpclient.New(t.Context(), near, smtpclient.Options{Name: "relay.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{key: "one", client: client}
	p := newPool()
	now := time.Now()
	at := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:25")}
	s.addr = at[0].Addr()
	r, err := p.reserve("one", at, limitOf(1), now)
	if err != nil {
		t.Fatal(err)
	}
	p.host("one").opening++
	s.place = r
	p.add(s)
	if _, err := p.reserve("two", at, limitOf(1), now); err == nil {
		t.Fatal("a session in use made room")
	}
	p.put(s, now)
	if _, err := p.reserve("two", at, limitOf(1), now); err != nil {
		t.Fatalf("an idle session made none: %v", err)
	}
	p.quits.Wait()
	if p.size() != 0 || s.client.Usable() {
		t.Error("the idle session is still there")
	}
}
