package ingress

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestAPortThatOnlySomeUsersMayBindNamesTheWaysOut(t *testing.T) {
	refused := &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EACCES)}
	for _, tt := range []struct {
		address string
		err     error
		waysOut bool
	}{
		{"0.0.0.0:25", refused, true},
		{"[::]:465", refused, true},
		{"0.0.0.0:2525", refused, false}, // SELinux, say
		{"0.0.0.0:25", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, false},
	} {
		text := explainListen(tt.address, tt.err).Error()
		if strings.Contains(text, "CAP_NET_BIND_SERVICE") != tt.waysOut || !strings.Contains(text, tt.err.Error()) {
			t.Errorf("%s: %s", tt.address, text)
		}
		if _, port, _ := net.SplitHostPort(tt.address); tt.waysOut && !strings.Contains(text, "ip_unprivileged_port_start="+port+" there") {
			t.Errorf("%s: %s", tt.address, text)
		}
	}
}
