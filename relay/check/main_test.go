package check_test

import (
	"context"
	"crypto/x509"
	"os"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/outbound"
)

func TestMain(m *testing.M) {
	check.StartRelay = startRelay
	os.Exit(m.Run())
}

// startRelay implements check.StartRelay.
func startRelay(t testing.TB, file string, dial outbound.DialFunc, roots *x509.CertPool, now func() time.Time) check.Running {
	t.Helper()
	conf, _, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(relay.Options{Config: conf, Dial: dial, Roots: roots, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, ready := make(chan error, 1), make(chan struct{})
	go func() { done <- r.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return r
}
