package sts_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts"
)

// A policy host that cannot take a ClientHello of two segments is asked once more
// with a small one; its certificate has to hold all the same.
func TestAPolicyHostGetsASmallClientHello(t *testing.T) {
	for name, fault := range map[string]testnet.HelloFault{"drops": testnet.HelloDrop, "stalls": testnet.HelloStall, "reads one segment": testnet.HelloSegment} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, h := site(t)
			hellos := clienthello.NewHosts(nil)
			var dials atomic.Int64
			f := sts.NewFetcher(sts.FetcherOptions{
				Roots: n.CA.Roots(), AllowPrivate: true, Timeout: 3 * time.Second, Hellos: hellos,
				LookupAddrs: func(context.Context, string) ([]netip.Addr, error) {
					return []netip.Addr{netip.MustParseAddr(h.IP)}, nil
				},
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					dials.Add(1)
					return n.DialContext(ctx, network, address)
				},
			})
			ok(t, h.Set(testnet.PolicyFaults{Hello: fault}))
			got, err := f.Fetch(t.Context(), domain)
			ok(t, err)
			if !got.SmallHello || got.Policy == nil || dials.Load() != 2 {
				t.Errorf("%+v, %d connections", got, dials.Load())
			}
			ok(t, h.Set(testnet.PolicyFaults{Hello: fault, Cert: testnet.CertSpec{Expired: true}}))
			_, err = f.Fetch(t.Context(), domain)
			if fe, is := errors.AsType[*sts.FetchError](err); !is || fe.Type != sts.WebPKIInvalid || dials.Load() != 3 {
				t.Errorf("%v, %d connections", err, dials.Load())
			}
		})
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
