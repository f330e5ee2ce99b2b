package webfetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// site is a web server whose certificate is for example.com; to it leads every
// connection.
func site(t *testing.T, handler http.HandlerFunc) (Options, *httptest.Server) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return Options{
		Roots: roots, AllowPrivate: func() bool { return true },
		LookupAddrs: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
	}, s
}

func ask(t *testing.T, ctx context.Context, o Options, url string) (*Exchange, string, error) { //nolint:revive // t first
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	x, err := New(o).Do(req)
	if err != nil {
		if x == nil || x.Answer != nil {
			t.Fatalf("%+v, %v", x, err)
		}
		return x, "", err
	}
	defer x.Answer.Body.Close()
	data, err := io.ReadAll(x.Answer.Body)
	return x, string(data), err
}

func TestAnAnswer(t *testing.T) {
	o, _ := site(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s %s", r.Proto, r.Host, r.URL.Path) })
	for http2, want := range map[bool]string{false: "HTTP/1.1 example.com /x", true: "HTTP/2.0 example.com /x"} {
		o.HTTP2 = http2
		x, got, err := ask(t, t.Context(), o, "https://example.com/x")
		if err != nil || got != want || x.Addr != "127.0.0.1" || x.SmallHello {
			t.Errorf("%q, %+v, %v; want %q", got, x, err, want)
		}
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	asked := 0
	o, _ := site(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/y", http.StatusFound)
	})
	x, _, err := ask(t, t.Context(), o, "https://example.com/x")
	if err != nil || x.Answer.StatusCode != http.StatusFound || asked != 1 {
		t.Errorf("%+v, %v, asked %d times", x, err, asked)
	}
}

func TestABodyIsBounded(t *testing.T) {
	o, _ := site(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) })
	for most, want := range map[int64]int{0: 64<<10 + 1, 10: 11} {
		o.MaxBody = most
		if _, got, err := ask(t, t.Context(), o, "https://example.com/"); err != nil || len(got) != want {
			t.Errorf("%d octets, %v; want %d", len(got), err, want)
		}
	}
}

// An answer that was cut off is no answer.
func TestAnEndWithoutGoodbyeIsAnError(t *testing.T) {
	o, _ := site(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
		_ = rw.Flush()
		conn.(interface{ NetConn() net.Conn }).NetConn().Close() // no close_notify
	})
	if _, got, err := ask(t, t.Context(), o, "https://example.com/"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAddressesThatAreNotPublicAreNotContacted(t *testing.T) {
	for _, private := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"} {
		o, s := site(t, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
		o.AllowPrivate = nil
		o.LookupAddrs = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(private)}, nil
		}
		for _, url := range []string{"https://example.com/", "https://" + net.JoinHostPort(private, "443") + "/"} {
			if x, _, err := ask(t, t.Context(), o, url); !errors.Is(err, ErrPrivateAddress) || x.Addr != "" {
				t.Errorf("%s, %s: %+v, %v", private, url, x, err)
			}
		}
		s.Close()
	}
}

func TestWhereThereIsNoAnswer(t *testing.T) {
	o, _ := site(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	gone := errors.New("gone")
	nobody, noAddress := o, o
	nobody.LookupAddrs = func(context.Context, string) ([]netip.Addr, error) { return nil, gone }
	noAddress.LookupAddrs = func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
	if _, _, err := ask(t, t.Context(), nobody, "https://example.com/"); !errors.Is(err, gone) {
		t.Errorf("a host that does not exist: %v", err)
	}
	if _, _, err := ask(t, t.Context(), noAddress, "https://example.com/"); err == nil || !strings.Contains(err.Error(), "example.com has no address") {
		t.Errorf("a host without an address: %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, gone)
	defer cancel()
	if x, _, err := ask(t, ctx, o, "https://example.com/"); !errors.Is(err, gone) || x.Addr != "127.0.0.1" {
		t.Errorf("a host that is silent: %+v, %v", x, err)
	}
	o.HeaderTimeout = 50 * time.Millisecond
	if _, _, err := ask(t, t.Context(), o, "https://example.com/"); err == nil {
		t.Error("a host that is silent has answered")
	}
	o.Roots = x509.NewCertPool()
	if _, _, err := ask(t, t.Context(), o, "https://example.com/"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody trusts: %v", err)
	}
}

// told is a connection that tells that it was closed.
type told struct {
	net.Conn
	closed chan struct{}
	once   *sync.Once
}

func (c told) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A request that has ended returns at once, while Transport goes on with the connection: what
// that reaches changes nothing that the caller has.
func TestAConnectionThatComesTooLateIsNotTold(t *testing.T) {
	o, s := site(t, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancel(t.Context())
	returned, late := make(chan struct{}), told{closed: make(chan struct{}), once: new(sync.Once)}
	o.DialContext = func(context.Context, string, string) (net.Conn, error) {
		cancel()
		<-returned
		var err error
		late.Conn, err = net.Dial("tcp", s.Listener.Addr().String())
		return late, err
	}
	x, _, err := ask(t, ctx, o, "https://example.com/")
	close(returned)
	<-late.closed
	if !errors.Is(err, context.Canceled) || x.Addr != "" || x.SmallHello {
		t.Errorf("%v; it has reached %q", err, x.Addr)
	}
}
