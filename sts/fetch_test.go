package sts_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts"
)

const domain = "example.org"

var goodPolicy = testnet.Policy{ID: "1", Mode: "enforce", MX: []string{"mx1.example.org"}, MaxAge: 86400}

// site is a domain with a policy host in a fake Internet.
func site(t *testing.T) (*testnet.Net, *testnet.PolicyHost) {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	if err := n.SetPolicy(domain, goodPolicy); err != nil {
		t.Fatal(err)
	}
	h, err := n.PolicyHost(domain)
	if err != nil {
		t.Fatal(err)
	}
	return n, h
}

func fetcher(n *testnet.Net, h *testnet.PolicyHost, timeout time.Duration) *sts.Fetcher {
	return sts.NewFetcher(sts.FetcherOptions{
		Roots: n.CA.Roots(), DialContext: n.DialContext, AllowPrivate: true, Timeout: timeout,
		LookupAddrs: func(_ context.Context, name string) ([]netip.Addr, error) {
			if name != h.Name {
				return nil, sts.ErrNoHost
			}
			return []netip.Addr{netip.MustParseAddr(h.IP)}, nil
		},
	})
}

// policyOf is a policy of n octets.
func policyOf(n int) string {
	text := "version: STSv1\nmode: enforce\nmx: mx1.example.org\nmax_age: 86400\n"
	return text + strings.Repeat("\n", n-len(text))
}

func TestFetch(t *testing.T) {
	n, h := site(t)
	for _, tt := range []struct {
		name   string
		faults testnet.PolicyFaults
		fails  sts.FailureType // "": it works
		words  string
	}{
		{"good", testnet.PolicyFaults{}, "", ""},
		{"charset", testnet.PolicyFaults{ContentType: "text/plain; charset=utf-8"}, "", ""},
		{"no Content-Type", testnet.PolicyFaults{ContentType: "-"}, "", ""},
		{"wildcard certificate", testnet.PolicyFaults{Cert: testnet.CertSpec{Names: []string{"*.example.org"}}}, "", ""},
		{"text/html", testnet.PolicyFaults{ContentType: "text/html"}, sts.PolicyFetchError, "Content-Type"},
		{"301", testnet.PolicyFaults{Status: 301, Location: "https://mta-sts.example.org/else"}, sts.PolicyFetchError, "redirects must not be followed"},
		{"201", testnet.PolicyFaults{Status: 201}, sts.PolicyFetchError, "201"},
		{"204", testnet.PolicyFaults{Status: 204}, sts.PolicyFetchError, "204"},
		{"206", testnet.PolicyFaults{Status: 206}, sts.PolicyFetchError, "206"},
		{"304", testnet.PolicyFaults{Status: 304}, sts.PolicyFetchError, "304"},
		{"404", testnet.PolicyFaults{Status: 404}, sts.PolicyFetchError, "404"},
		{"500", testnet.PolicyFaults{Status: 500}, sts.PolicyFetchError, "500"},
		{"70 KiB", testnet.PolicyFaults{Body: "version: STSv1\nmode: enforce\nmx: mx1.example.org\nmax_age: 86400\n" + strings.Repeat("x: y\n", 14000)}, sts.PolicyFetchError, "longer than 65536"},
		{"endless", testnet.PolicyFaults{Endless: true}, sts.PolicyFetchError, "longer than 65536"},
		{"gzip, which nobody asked for", testnet.PolicyFaults{Coding: "gzip"}, "", ""},
		{"x-gzip", testnet.PolicyFaults{Coding: "x-gzip"}, "", ""},
		{"deflate", testnet.PolicyFaults{Coding: "deflate"}, "", ""},
		{"deflate without a header", testnet.PolicyFaults{Coding: "raw deflate"}, "", ""},
		{"identity", testnet.PolicyFaults{Coding: "identity"}, "", ""},
		{"gzip over HTTP/1.1", testnet.PolicyFaults{Coding: "gzip", HTTP1Only: true}, "", ""},
		{"gzip of exactly 64 KiB", testnet.PolicyFaults{Coding: "gzip", Body: policyOf(64 << 10)}, "", ""},
		{"gzip of one octet more", testnet.PolicyFaults{Coding: "gzip", Body: policyOf(64<<10 + 1)}, sts.PolicyFetchError, "longer than 65536"},
		{"endless gzip", testnet.PolicyFaults{Coding: "endless gzip"}, sts.PolicyFetchError, "longer than 65536"},
		{"brotli", testnet.PolicyFaults{Coding: "br"}, sts.PolicyFetchError, "Content-Encoding"},
		{"gzip twice", testnet.PolicyFaults{Coding: "gzip, gzip"}, sts.PolicyFetchError, "Content-Encoding"},
		{"gzip that is served as text", testnet.PolicyFaults{Body: "\x1f\x8b\x08\x00"}, sts.PolicyInvalid, "gzip"},
		{"UTF-16", testnet.PolicyFaults{Body: "\xff\xfev\x00e\x00r\x00"}, sts.PolicyInvalid, "UTF-16"},
		{"a web page", testnet.PolicyFaults{Body: "<!DOCTYPE html>"}, sts.PolicyInvalid, "web page"},
		{"nothing", testnet.PolicyFaults{EmptyBody: true}, sts.PolicyInvalid, "0 octets"},
		{"nothing, in gzip", testnet.PolicyFaults{Coding: "gzip", EmptyBody: true}, sts.PolicyInvalid, "0 octets"},
		{"HTTP/2 only", testnet.PolicyFaults{HTTP2Only: true}, "", ""},
		{"HTTP/1.1 only", testnet.PolicyFaults{HTTP1Only: true}, "", ""},
		{"404 over HTTP/2", testnet.PolicyFaults{HTTP2Only: true, Status: 404}, sts.PolicyFetchError, "404"},
		{"endless over HTTP/1.1", testnet.PolicyFaults{HTTP1Only: true, Endless: true}, sts.PolicyFetchError, "longer than 65536"},
		{"ends with the connection", testnet.PolicyFaults{Unframed: true}, "", ""},
		{"cut by the end of the connection", testnet.PolicyFaults{Cut: true}, sts.PolicyFetchError, "the connection ended in the middle"},
		{"not a policy", testnet.PolicyFaults{Body: "hello\n"}, sts.PolicyInvalid, "not a key and a value"},
		{"expired certificate", testnet.PolicyFaults{Cert: testnet.CertSpec{Expired: true}}, sts.WebPKIInvalid, "expired"},
		{"self-signed certificate", testnet.PolicyFaults{Cert: testnet.CertSpec{SelfSigned: true}}, sts.WebPKIInvalid, ""},
		{"certificate of an unknown authority", testnet.PolicyFaults{Cert: testnet.CertSpec{UnknownCA: true}}, sts.WebPKIInvalid, ""},
		{"certificate for the domain", testnet.PolicyFaults{Cert: testnet.CertSpec{Names: []string{"example.org"}}}, sts.WebPKIInvalid, "mta-sts.example.org"},
		{"wildcard in a part of a label", testnet.PolicyFaults{Cert: testnet.CertSpec{Names: []string{"mta-*.example.org"}}}, sts.WebPKIInvalid, ""},
		{"name in the Common Name only", testnet.PolicyFaults{Cert: testnet.CertSpec{CNOnly: true, Names: []string{"mta-sts.example.org"}}}, sts.WebPKIInvalid, ""},
		{"TLS 1.1", testnet.PolicyFaults{TLS11: true}, sts.PolicyFetchError, ""},
		{"down", testnet.PolicyFaults{Down: true}, sts.PolicyFetchError, "refused"},
		{"stalls", testnet.PolicyFaults{Stall: true}, sts.PolicyFetchError, "no policy within"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := h.Set(tt.faults); err != nil {
				t.Fatal(err)
			}
			timeout := 10 * time.Second
			if tt.faults.Stall {
				timeout = 200 * time.Millisecond
			}
			got, err := fetcher(n, h, timeout).Fetch(t.Context(), domain)
			if tt.fails == "" {
				if err != nil || got.Policy.Mode != sts.ModeEnforce || got.TLS == nil {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			fe, ok := errors.AsType[*sts.FetchError](err)
			if !ok || fe.Type != tt.fails || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%v, want %s with %q", err, tt.fails, tt.words)
			}
		})
	}
	for _, r := range h.Requests() {
		if r.URL.Path != "/.well-known/mta-sts.txt" {
			t.Errorf("a request for %s: a redirect was followed", r.URL.Path)
		}
		for _, name := range []string{"If-None-Match", "If-Modified-Since", "Accept-Encoding"} {
			if r.Header.Get(name) != "" {
				t.Errorf("a request has %s", name)
			}
		}
	}
}

func TestPrivateAddressesOfPolicyHostsAreNotContacted(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1", "192.168.1.1", "fd00::1"} {
		f := sts.NewFetcher(sts.FetcherOptions{
			LookupAddrs: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr(ip)}, nil },
			DialContext: func(context.Context, string, string) (netConn, error) {
				t.Errorf("%s was contacted", ip)
				return nil, errors.New("contacted")
			},
		})
		if _, err := f.Fetch(t.Context(), domain); !errors.Is(err, sts.ErrPrivateAddress) {
			t.Errorf("%s: %v", ip, err)
		}
	}
}

// An IPv6 address that swallows packets costs a quarter of a second, and others
// that do so no more than that each.
func TestAddressesThatSwallowPacketsCostLittle(t *testing.T) {
	n, h := site(t)
	dialled := make(chan string, 20)
	f := sts.NewFetcher(sts.FetcherOptions{
		Roots: n.CA.Roots(), AllowPrivate: true,
		LookupAddrs: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(h.IP), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")}, nil
		},
		DialContext: func(ctx context.Context, network, address string) (netConn, error) {
			dialled <- address
			if strings.HasPrefix(address, "[2001:db8") {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return n.DialContext(ctx, network, address)
		},
	})
	got, err := f.Fetch(t.Context(), domain)
	if err != nil || got.Addr != h.IP {
		t.Fatalf("%+v, %v", got, err)
	}
	if first, second := <-dialled, <-dialled; first != "[2001:db8::1]:443" || second != h.IP+":443" {
		t.Errorf("dialled %s, then %s", first, second)
	}
}

// Whoever gives a policy host many addresses cannot have them all contacted.
func TestFewOfManyAddressesAreContacted(t *testing.T) {
	var dialled atomic.Int64
	f := sts.NewFetcher(sts.FetcherOptions{
		AllowPrivate: true,
		LookupAddrs: func(context.Context, string) (out []netip.Addr, err error) {
			for i := range 200 {
				out = append(out, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
			}
			return out, nil
		},
		DialContext: func(context.Context, string, string) (netConn, error) {
			dialled.Add(1)
			return nil, errors.New("refused")
		},
	})
	if _, err := f.Fetch(t.Context(), domain); err == nil || dialled.Load() != 8 {
		t.Errorf("%d addresses were dialled: %v", dialled.Load(), err)
	}
}

func TestAnotherAddressIsTriedWhereOneIsDead(t *testing.T) {
	n, h := site(t)
	f := sts.NewFetcher(sts.FetcherOptions{
		Roots: n.CA.Roots(), DialContext: n.DialContext, AllowPrivate: true,
		LookupAddrs: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("::2"), netip.MustParseAddr("127.255.255.254"), netip.MustParseAddr(h.IP)}, nil
		},
	})
	got, err := f.Fetch(t.Context(), domain)
	if err != nil || got.Addr != h.IP {
		t.Errorf("%+v, %v", got, err)
	}
}
