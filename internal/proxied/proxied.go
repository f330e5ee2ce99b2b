// Package proxied believes the PROXY header of load balancers, and of nobody else.
package proxied

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// headerTimeout is how long a load balancer may take for its header.
const headerTimeout = 5 * time.Second

// Listener returns a listener whose connections from the networks of from must begin with
// a PROXY header, version 1 or 2, and have the remote address that it names. The header is
// not read from others. Where from is empty it returns ln.
func Listener(ln net.Listener, from []netip.Prefix) net.Listener {
	if len(from) == 0 {
		return ln
	}
	return &proxyproto.Listener{Listener: ln, ReadHeaderTimeout: headerTimeout, ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		t, ok := o.Upstream.(*net.TCPAddr)
		if ok && slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(t.AddrPort().Addr().Unmap()) }) {
			return proxyproto.REQUIRE, nil
		}
		return proxyproto.SKIP, nil
	}}
}
