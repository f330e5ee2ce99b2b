package dnsclient

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// resolverOf is a server that validates, validates nothing, or gives AD bits to
// everything but the root zone, as one does that hands on what others say.
func resolverOf(t *testing.T, root func(m *dns.Msg)) (addr string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	return rude(t, func(q *dns.Msg, _ bool) [][]byte {
		m := goodReply(q)
		if q.Question[0].Name == "." {
			asked.Add(1)
			root(m)
		}
		return [][]byte{packed(m)}
	}), asked
}

func TestTheRootZoneTellsWhoValidates(t *testing.T) {
	for _, tt := range []struct {
		name     string
		root     func(m *dns.Msg)
		trust    string
		want     Validation
		believed bool
		warns    bool
	}{
		{"validates", func(*dns.Msg) {}, "auto", Validates, true, false},
		{"validates nothing", func(m *dns.Msg) { m.AuthenticatedData = false }, "auto", ValidatesNothing, false, true},
		{"validates nothing, and the operator vouches for it", func(m *dns.Msg) { m.AuthenticatedData = false }, "always", ValidatesNothing, true, true},
		{"knows no root zone", func(m *dns.Msg) { m.AuthenticatedData, m.Rcode, m.Answer = false, dns.RcodeNameError, nil }, "auto", ValidatesNothing, false, true},
		{"refuses", func(m *dns.Msg) { m.AuthenticatedData, m.Rcode, m.Answer = false, dns.RcodeRefused, nil }, "auto", ValidatesNothing, false, true},
		// A resolver that cannot reach the Internet yet must not switch DANE off.
		{"cannot say", func(m *dns.Msg) { m.AuthenticatedData, m.Rcode, m.Answer = false, dns.RcodeServerFailure, nil }, "auto", NotKnown, true, false},
		{"is not asked", func(m *dns.Msg) { m.AuthenticatedData = false }, "never", NotKnown, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, asked := resolverOf(t, tt.root)
			var log bytes.Buffer
			c := newTestClient(t, Options{Servers: []string{addr}, TrustAD: tt.trust, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			// A lookup asks by itself.
			mx, err := c.MX(t.Context(), "a.example")
			if s := c.Servers()[0]; err != nil || mx.Secure != tt.believed || s.Believed != tt.believed || s.Validation != tt.want || s.Protects() != (tt.believed && tt.want != ValidatesNothing) {
				t.Errorf("%+v, %v; %+v", mx, err, s)
			}
			if warned := strings.Contains(log.String(), "does not validate DNSSEC"); warned != tt.warns {
				t.Errorf("log: %s", &log)
			}
			before := asked.Load()
			c.Probe(t.Context())
			if again := asked.Load() > before; again != (tt.trust != "never") {
				t.Errorf("asked again: %t", again)
			}
		})
	}
}

// What a server is may change: that is found out in passing.
func TestWhoValidatesIsAskedAgain(t *testing.T) {
	var validates atomic.Bool
	addr, _ := resolverOf(t, func(m *dns.Msg) { m.AuthenticatedData = validates.Load() })
	now := time.Now()
	c := newTestClient(t, Options{Servers: []string{addr}, CacheBytes: 1, Now: func() time.Time { return now }})
	for _, tt := range []struct {
		after     time.Duration
		validates bool
		secure    bool
	}{{0, false, false}, {time.Minute, true, false}, {5 * time.Minute, true, true}, {time.Minute, false, true}, {time.Hour, false, false}, {-24 * time.Hour, true, true}} {
		now = now.Add(tt.after)
		validates.Store(tt.validates)
		if mx, err := c.MX(t.Context(), "a.example"); err != nil || mx.Secure != tt.secure {
			t.Errorf("%+v: %+v, %v", tt, mx, err)
		}
	}
}

// What a server that validates has found to be forged is not asked of another that
// does not; where the first is down, the other is asked.
func TestBogusIsNotAskedElsewhere(t *testing.T) {
	var mode atomic.Value
	validating := rude(t, func(q *dns.Msg, _ bool) [][]byte {
		m := goodReply(q)
		switch how := mode.Load(); {
		case how == "down", how == "silent" && q.Question[0].Name != ".":
			return nil
		case q.Question[0].Name != "." && how == "bogus":
			m = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		}
		return [][]byte{packed(m)}
	})
	var asked atomic.Int64
	plain := rude(t, func(q *dns.Msg, _ bool) [][]byte {
		m := goodReply(q)
		m.AuthenticatedData = false
		if q.Question[0].Name != "." {
			asked.Add(1)
		}
		return [][]byte{packed(m)}
	})
	for _, tt := range []struct {
		mode  string
		other bool
	}{{"bogus", false}, {"silent", false}, {"down", true}} {
		mode.Store(tt.mode)
		asked.Store(0)
		c := newTestClient(t, Options{Servers: []string{validating, plain}, Timeout: 50 * time.Millisecond})
		mx, err := c.MX(t.Context(), "a.example")
		if other := asked.Load() > 0; other != tt.other || tt.other != (err == nil) || mx.Secure || !tt.other && !errors.Is(err, ErrTemporary) {
			t.Errorf("%s: %+v, %v, the other was asked: %t", tt.mode, mx, err, other)
		}
	}
}

// A signed alias may lead into a zone that is not signed.
func TestAlias(t *testing.T) {
	z := newZone(t, nil)
	z.records(t, "mx.example.", "CNAME", "mx.example. 60 IN CNAME host.provider.example.")
	c := newTestClient(t, Options{Servers: []string{z.addr}})
	if target, secure, err := c.Alias(t.Context(), "mx.example"); err != nil || target != "host.provider.example" || !secure {
		t.Errorf("%q, %t, %v", target, secure, err)
	}
	if _, _, err := c.Alias(t.Context(), "host.provider.example"); !errors.Is(err, ErrNXDomain) {
		t.Error(err)
	}
}
