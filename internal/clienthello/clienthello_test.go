package clienthello

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// host reads the first TLS record of a connection and does something with it.
func host(do func(conn net.Conn, size int)) net.Conn {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		header := make([]byte, 5)
		if _, err := io.ReadFull(server, header); err != nil {
			return
		}
		size := 5 + int(header[3])<<8 + int(header[4])
		if _, err := io.ReadFull(server, make([]byte, size-5)); err == nil {
			do(server, size)
		}
	}()
	return client
}

func stall(conn net.Conn, _ int) { _, _ = io.Copy(io.Discard, conn) }

func config() *tls.Config {
	return &tls.Config{ServerName: "mx.example.org", MinVersion: tls.VersionTLS10, CipherSuites: AllSuites(), InsecureSkipVerify: true} //nolint:gosec // nothing is verified here
}

// What this package is for: the usual ClientHello is larger than a segment, the
// small one is well within it, with all suites and versions.
func TestSizes(t *testing.T) {
	sizes := map[bool]int{}
	for _, small := range []bool{false, true} {
		cfg := config()
		if small {
			cfg = Classical(cfg)
		}
		_, _ = Handshake(t.Context(), host(func(_ net.Conn, n int) { sizes[small] = n }), cfg, Limits{})
	}
	if sizes[false] < 1400 || sizes[true] == 0 || sizes[true] > 512 {
		t.Errorf("%d octets, and small %d", sizes[false], sizes[true])
	}
}

// A handshake is worth a smaller ClientHello until the host begins its answer.
func TestUnanswered(t *testing.T) {
	serverHello := func(conn net.Conn, _ int) { _, _ = conn.Write([]byte{22, 3, 3, 0, 4}) }
	for _, tt := range []struct {
		name   string
		do     func(net.Conn, int)
		after  time.Duration // the handshake ends
		worth  bool
		reason string
	}{
		{"dropped", func(net.Conn, int) {}, 0, true, "the host closed the connection"},
		{"swallowed", stall, Silence, true, "the host did not answer in time"},
		{"an alert", func(c net.Conn, _ int) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40}) }, 0, true, "the host sent the alert handshake failure"},
		{"clear text", func(c net.Conn, _ int) { _, _ = c.Write([]byte("454 no TLS\r\n")) }, 0, true, "first record does not look like a TLS handshake"},
		{"a ServerHello begun and dropped", serverHello, 0, false, "the host closed the connection"},
		{"a ServerHello begun and no more", func(c net.Conn, n int) { serverHello(c, n); stall(c, n) }, time.Minute, false, "the host did not answer in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, cfg := range []*tls.Config{config(), Classical(config())} {
					begun, large := time.Now(), cfg.CurvePreferences == nil
					conn := host(tt.do)
					_, err := Handshake(t.Context(), conn, cfg, Limits{Whole: time.Minute})
					conn.Close()
					if got, want := Unanswered(err), tt.worth && large; err == nil || got != want {
						t.Errorf("large %t: worth another try: %t, want %t (%v)", large, got, want, err)
					}
					if got := Reason(err).String(); got != tt.reason {
						t.Errorf("%q, want %q", got, tt.reason)
					}
					want := tt.after
					if want > 0 && !large {
						want = time.Minute
					}
					if took := time.Since(begun); took != want {
						t.Errorf("large %t: it took %s, want %s", large, took, want)
					}
				}
			})
		})
	}
}

// Who gives up is no fault of the host.
func TestACancelledHandshakeIsNotUnanswered(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Handshake(ctx, host(func(c net.Conn, n int) { cancel(); stall(c, n) }), config(), Limits{})
	if err == nil || Unanswered(err) {
		t.Errorf("%v", err)
	}
}

func TestTheFirstLimitIsWithinTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			limits Limits
			want   time.Duration
		}{
			{Limits{}, Silence},
			{Limits{First: time.Second}, time.Second},
			{Limits{Whole: 5 * time.Second}, 5 * time.Second},
			{Limits{Whole: 5 * time.Second, First: time.Second}, time.Second},
		} {
			begun := time.Now()
			conn := host(stall)
			_, err := Handshake(t.Context(), conn, config(), tt.limits)
			conn.Close()
			if took := time.Since(begun); took != tt.want || !Unanswered(err) {
				t.Errorf("%+v: %s, %v", tt.limits, took, err)
			}
		}
	})
}

// The second ClientHello differs in its groups alone.
func TestOnlyTheGroupsDiffer(t *testing.T) {
	hello := func(cfg *tls.Config) (h tls.ClientHelloInfo) {
		client, server := net.Pipe()
		go func() { _, _ = Handshake(t.Context(), client, cfg, Limits{}) }()
		_ = tls.Server(server, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) { //nolint:gosec // it only looks
			h = *i
			return nil, errors.New("enough")
		}}).Handshake()
		client.Close()
		return h
	}
	cfg := config()
	cfg.CipherSuites = Suites()
	large, small := hello(cfg), hello(Classical(cfg))
	for _, g := range small.SupportedCurves {
		if !slices.Contains(large.SupportedCurves, g) {
			t.Errorf("%s is new", g)
		}
	}
	if len(small.SupportedCurves) != 4 {
		t.Errorf("groups %v", small.SupportedCurves)
	}
	same := func(what string, large, small any) {
		if fmt.Sprint(large) != fmt.Sprint(small) {
			t.Errorf("%s: %v, then %v", what, large, small)
		}
	}
	same("suites", large.CipherSuites, small.CipherSuites)
	same("versions", large.SupportedVersions, small.SupportedVersions)
	same("signatures", large.SignatureSchemes, small.SignatureSchemes)
	same("name", large.ServerName, small.ServerName)
}

func TestRC4IsNotOfferedToEverybody(t *testing.T) {
	names := func(ids []uint16) (out string) {
		for _, id := range ids {
			out += tls.CipherSuiteName(id) + " "
		}
		return out
	}
	few, all := names(Suites()), names(AllSuites())
	if strings.Contains(few, "RC4") || !strings.Contains(all, "TLS_RSA_WITH_RC4_128_SHA") {
		t.Errorf("%s\n%s", few, all)
	}
	for _, want := range []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_256_CBC_SHA ", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"} {
		if !strings.Contains(few, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestHostsAreRememberedForADay(t *testing.T) {
	now := time.Now()
	h := NewHosts(func() time.Time { return now })
	h.Remember("a")
	if now = now.Add(memory - time.Second); !h.Small("a") || h.Small("b") {
		t.Error("a is forgotten, or b is known")
	}
	if now = now.Add(time.Second); h.Small("a") {
		t.Error("a is known for more than a day")
	}
	var none *Hosts
	none.Remember("a")
	if none.Small("a") {
		t.Error("nobody remembers")
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	now := time.Now()
	h := NewHosts(func() time.Time { return now })
	for i := range maxHosts {
		h.Remember(fmt.Sprint(i))
	}
	h.Remember("one more")
	if len(h.until) != maxHosts || !h.Small("one more") {
		t.Errorf("%d are remembered", len(h.until))
	}
	now = now.Add(memory)
	if h.Remember("the next day"); len(h.until) != 1 {
		t.Errorf("%d are remembered though their day is over", len(h.until))
	}
}
