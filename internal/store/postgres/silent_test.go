package postgres_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

// behindSilent is a URL of which the first servers accept connections and never answer,
// as one does that is suspended. The last one is the cluster's.
func behindSilent(t *testing.T, silent int) string {
	t.Helper()
	var hosts, ports []string
	for range silent {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		host, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	hosts, ports = append(hosts, strings.TrimSuffix(socketOf(""), "/.s.PGSQL.")), append(ports, primary().Port())
	return fmt.Sprintf("host=%s port=%s user=stsrelay dbname=postgres sslmode=disable connect_timeout=1", strings.Join(hosts, ","), strings.Join(ports, ","))
}

// After an outage that was longer than the patience, little time is left for each attempt.
// A server that is silent may not use up all of it, as long as another one is there.
func TestASilentServerDoesNotHideTheNextOne(t *testing.T) {
	space := newSpace()
	s, err := postgres.Open(t.Context(), postgres.Options{URL: behindSilent(t, 1), Space: space, Holder: "behind silence", Patience: time.Second, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	query(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'stsrelay behind silence'")
	await.Until(t, "a commit", func() bool { return <-submit(s, "k") == nil })
}

func TestEachServerOfTheURLHasItsTurn(t *testing.T) {
	t.Parallel()
	d, err := postgres.NewDirectory(behindSilent(t, 11), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if _, err := d.Spaces(t.Context()); err != nil {
		t.Errorf("behind eleven silent servers: %v", err)
	}
}
