package ingress

import (
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/queue"
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

// A fault of the relay is in the log at every level, with the place.
func TestAPanicIsAnError(t *testing.T) {
	var log logged
	d := newServer(t, func(o *Options) {
		o.Accepted = func(*queue.Envelope) { panic("a fault") }
		o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	})
	c := d.hello()
	c.bdat(headers+"x\r\n", "421 ")
	c.want("EOF")
	await.Until(t, "the line in the log", func() bool { return strings.Contains(log.String(), "a fault") }) // go-smtp writes it after it has closed the connection
	if got := log.String(); !strings.Contains(got, `"level":"ERROR"`) || !strings.Contains(got, "a fault") || !strings.Contains(got, "listen_test.go") {
		t.Error(got)
	}
}
