package outbound

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

func TestAFailureNamesAnAddressOnce(t *testing.T) {
	one, two := netip.MustParseAddrPort("192.0.2.1:25"), netip.MustParseAddrPort("[2001:db8::1]:25")
	failed := func(to netip.AddrPort, err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	refused := failed(one, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	lost := &net.OpError{Op: "read", Net: "tcp", Source: net.TCPAddrFromAddrPort(one), Addr: net.TCPAddrFromAddrPort(two), Err: os.ErrDeadlineExceeded}
	for want, f := range map[string]*Failure{
		"no connection to mx.example [192.0.2.1]: connection refused":                                             {Stage: StageConnect, Addrs: []netip.Addr{one.Addr()}, Err: errors.Join(refused)},
		"no connection to mx.example: 192.0.2.1:25: connection refused; [2001:db8::1]:25: network is unreachable": {Stage: StageConnect, Addrs: []netip.Addr{one.Addr(), two.Addr()}, Err: errors.Join(refused, failed(two, os.NewSyscallError("connect", syscall.ENETUNREACH)))},
		"no second connection to mx.example: connection refused":                                                  {Stage: StageReconnect, Err: refused},
		"mx.example [2001:db8::1]: i/o timeout":                                                                   {Stage: StageGreeting, Addr: two.Addr(), Err: lost},
	} {
		f.Host = "mx.example"
		if f.Error() != want {
			t.Errorf("%s\nwant %s", f, want)
		}
	}
}
