package sts_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts"
)

// wire is a policy host of which a test writes every byte.
type wire struct {
	fetcher *sts.Fetcher
	ended   chan error // what the host saw after its answer: the end of the connection
	sni     string
}

func newWire(t *testing.T, timeout time.Duration, answer func(w io.Writer)) *wire {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	cert, err := n.CA.Issue("mta-sts."+domain, testnet.CertSpec{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ended: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			w.ended <- err
			return
		}
		defer conn.Close()
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			w.ended <- err
			return
		}
		w.sni = conn.(*tls.Conn).ConnectionState().ServerName
		if req.Host != "mta-sts."+domain {
			t.Errorf("the request is for %s", req.Host)
		}
		answer(conn)
		_, err = conn.Read(make([]byte, 1))
		w.ended <- err
	}()
	t.Cleanup(func() { l.Close(); <-done })
	w.fetcher = sts.NewFetcher(sts.FetcherOptions{
		Roots: n.CA.Roots(), AllowPrivate: true, Timeout: timeout,
		LookupAddrs: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{netip.IPv6Loopback()}, nil },
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "[::1]:443" {
				t.Errorf("dialled %s", address)
			}
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		},
	})
	return w
}

const wirePolicy = "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 3600\n"

func TestTheNameInTheHandshakeIsThePolicyHosts(t *testing.T) {
	w := newWire(t, time.Minute, func(w io.Writer) {
		fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(wirePolicy), wirePolicy)
	})
	got, err := w.fetcher.Fetch(t.Context(), domain)
	if err != nil {
		t.Fatal(err)
	}
	if <-w.ended; w.sni != "mta-sts."+domain {
		t.Errorf("SNI is %q", w.sni)
	}
	if got.Text != wirePolicy || got.TLS.Version < tls.VersionTLS12 || got.Addr != "::1" {
		t.Errorf("%+v", got)
	}
	// Both kinds of warnings: of the answer and of the policy.
	if len(got.Warnings) != 2 || got.Warnings[0].Code != sts.WarnContentType || got.Warnings[1].Code != sts.WarnShortAge {
		t.Errorf("%+v", got.Warnings)
	}
}

func TestAnAnnouncedLengthBeyondTheLimitIsNotRead(t *testing.T) {
	w := newWire(t, time.Minute, func(w io.Writer) { // and it never sends the body
		fmt.Fprint(w, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 65537\r\n\r\n")
	})
	if _, err := w.fetcher.Fetch(t.Context(), domain); err == nil || !strings.Contains(err.Error(), "65537 octets") {
		t.Errorf("%v", err)
	}
	if err := <-w.ended; err == nil {
		t.Error("the connection was not closed")
	}
}

func TestABodyOfExactlyTheLimitIsRead(t *testing.T) {
	body := wirePolicy + strings.Repeat("\n", 65536-len(wirePolicy))
	w := newWire(t, time.Minute, func(w io.Writer) {
		fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: Text/Plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	if _, err := w.fetcher.Fetch(t.Context(), domain); err != nil {
		t.Error(err)
	}
}

func TestABodyThatIsCutOffIsNoPolicy(t *testing.T) {
	w := newWire(t, time.Minute, func(w io.Writer) {
		fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(wirePolicy)+20, wirePolicy)
		w.(io.Closer).Close()
	})
	_, err := w.fetcher.Fetch(t.Context(), domain)
	if fe, ok := errors.AsType[*sts.FetchError](err); !ok || fe.Type != sts.PolicyFetchError || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}

// A host that keeps sending a little does not hold the mail longer than one
// that says nothing.
func TestTheTimeoutHoldsForTheWholeFetch(t *testing.T) {
	w := newWire(t, 300*time.Millisecond, func(w io.Writer) {
		fmt.Fprint(w, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := w.Write([]byte("\n")); err != nil {
				return
			}
		}
	})
	if _, err := w.fetcher.Fetch(t.Context(), domain); err == nil || !strings.Contains(err.Error(), "no policy within 300ms") {
		t.Errorf("%v", err)
	}
	<-w.ended
}

func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	var dialled []string
	f := sts.NewFetcher(sts.FetcherOptions{
		AllowPrivate: true,
		LookupAddrs: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.7")}, nil
		},
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			return nil, errors.New("enough")
		},
	})
	if _, err := f.Fetch(t.Context(), domain); err == nil || !slices.Equal(dialled, []string{"192.0.2.7:443"}) {
		t.Errorf("dialled %s: %v", dialled, err)
	}
}

func TestAPublicAddressIsUsedBesideAPrivateOne(t *testing.T) {
	var dialled []string
	f := sts.NewFetcher(sts.FetcherOptions{
		LookupAddrs: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("8.8.8.8")}, nil
		},
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			return nil, errors.New("enough")
		},
	})
	if _, err := f.Fetch(t.Context(), domain); err == nil || !slices.Equal(dialled, []string{"8.8.8.8:443"}) {
		t.Errorf("dialled %s: %v", dialled, err)
	}
}
