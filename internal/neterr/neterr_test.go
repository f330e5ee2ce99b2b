package neterr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestErrorsNameNoAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now())
	_, silent := conn.Read(make([]byte, 1))
	l.Close()
	_, refused := new(net.Dialer).DialContext(context.Background(), "tcp", l.Addr().String())

	for _, row := range []struct {
		err  error
		want string
	}{
		{refused, "connection refused"},
		{silent, "i/o timeout"},
		{fmt.Errorf("MAIL: %w", silent), "MAIL: i/o timeout"},
		{errors.Join(refused, fmt.Errorf("then: %w", silent)), "connection refused\nthen: i/o timeout"},
		{io.EOF, "EOF"},
	} {
		got := Plain(row.err)
		if got.Error() != row.want {
			t.Errorf("%v: %q, want %q", row.err, got, row.want)
		}
	}
	if !errors.Is(Plain(refused), syscall.ECONNREFUSED) || !errors.Is(Plain(silent), os.ErrDeadlineExceeded) || Plain(nil) != nil {
		t.Error("what is wrapped is lost")
	}
}
