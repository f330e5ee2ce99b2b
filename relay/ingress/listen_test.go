package ingress

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

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

// noFiles is a listener that has no file left for a connection.
type noFiles struct{ net.Listener }

func (noFiles) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

// A relay that takes no connections says so, and not with each try.
func TestConnectionsThatCannotBeAcceptedAreLogged(t *testing.T) {
	var log logged
	now := newClock()
	d := newServer(t, func(o *Options) { o.Now, o.Logger = now.now, slog.New(slog.NewJSONHandler(&log, nil)) })
	a := acceptor{&listener{server: d.server, options: Listener{Address: "192.0.2.1:25"}, net: noFiles{}}}
	for _, want := range []int{1, 1, 2, 2} {
		if _, err := a.Accept(); !errors.Is(err, syscall.EMFILE) {
			t.Error(err)
		}
		if got := strings.Count(log.String(), "too many open files"); got != want || !strings.Contains(log.String(), `"level":"ERROR","msg":"no connection can be accepted","listener":"192.0.2.1:25"`) {
			t.Errorf("%d lines, want %d\n%s", got, want, log.String())
		}
		now.move(acceptNoted/2 + time.Second)
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
