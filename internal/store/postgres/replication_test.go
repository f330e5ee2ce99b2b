package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/pgtest"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/internal/store/postgres/postgrestest"
)

// pair is a cluster of its own, of a primary and one standby, with an open store.
func pair(t *testing.T, patience time.Duration) (*pgtest.Cluster, *postgres.Store) {
	t.Helper()
	c := postgrestest.Start(t, 1)
	s, err := postgres.Open(context.Background(), postgres.Options{URL: c.URL(), Space: "a", Patience: patience, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return c, s
}

func submit(s *postgres.Store, key string) chan error {
	var b store.Batch
	b.Set([]byte(key), []byte("v"))
	answer := make(chan error, 1)
	s.Submit(&b, func(err error) { answer <- err })
	return answer
}

func waitsForStandby(t *testing.T, n *pgtest.Node) {
	t.Helper()
	await.Until(t, "a commit that waits for the standby", func() bool {
		out, err := n.Query("select count(*) from pg_stat_activity where wait_event = 'SyncRep'")
		return err == nil && out != "0"
	})
}

// A commit that waits for a standby, and is cancelled, is reported as done by the server.
func TestACancelledCommitIsNotAcknowledged(t *testing.T) {
	c, s := pair(t, 2*time.Second)
	primary, standby := c.Nodes[0], c.Nodes[1]
	standby.Shutdown()
	answer := submit(s, "k1")
	waitsForStandby(t, primary)
	if _, err := primary.Query("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; !errors.Is(err, store.ErrUnknown) {
		t.Errorf("answered with %v, want %v", err, store.ErrUnknown)
	}
	if !strings.Contains(primary.Log(), "canceling wait for synchronous replication due to user request") {
		t.Fatal("the server did not cancel the wait: the test shows nothing")
	}
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "a commit", func() bool { return <-submit(s, "k2") == nil })
}

// After a restart of the primary, a row is there that no standby has.
func TestACommitThatARestartHasMadeVisibleIsNotAcknowledgedBeforeTheStandbyHasIt(t *testing.T) {
	c, s := pair(t, time.Minute)
	primary, standby := c.Nodes[0], c.Nodes[1]
	standby.Shutdown()
	answer := submit(s, "k1")
	waitsForStandby(t, primary)
	primary.Kill()
	if err := primary.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := primary.Query("select count(*) from stsrelay.entries where key = 'k1'"); err != nil || out != "1" {
		t.Fatalf("%s rows, %v: the test shows nothing", out, err)
	}
	waitsForStandby(t, primary) // the store asks again, and waits
	select {
	case err := <-answer:
		t.Fatalf("answered with %v while one disk has it", err)
	default:
	}
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Error(err)
	}
	await.Until(t, "the row on the standby", func() bool {
		out, err := standby.Query("select count(*) from stsrelay.entries where key = 'k1'")
		return err == nil && out == "1"
	})
}

// Giving up a commit must not cancel it: that would acknowledge it to others.
func TestACommitThatIsGivenUpIsNotCancelled(t *testing.T) {
	c, s := pair(t, time.Second)
	primary, standby := c.Nodes[0], c.Nodes[1]
	standby.Shutdown()
	answer := submit(s, "k1")
	if err := <-answer; !errors.Is(err, store.ErrUnknown) {
		t.Errorf("answered with %v, want %v", err, store.ErrUnknown)
	}
	waitsForStandby(t, primary)
	if strings.Contains(primary.Log(), "canceling") {
		t.Errorf("a statement was cancelled: %s", primary.Log())
	}
	if err := <-submit(s, "k2"); !errors.Is(err, store.ErrAway) {
		t.Errorf("while no standby is there: %v", err)
	}
	if out, err := primary.Query("select count(*) from pg_stat_activity where wait_event = 'SyncRep'"); err != nil || len(out) > 1 {
		t.Errorf("%s commits wait, %v: they pile up", out, err)
	}
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "a commit", func() bool { return <-submit(s, "k3") == nil })
}

func TestNothingThatWasAcknowledgedIsLostWithThePrimary(t *testing.T) {
	c, s := pair(t, time.Minute)
	primary, standby := c.Nodes[0], c.Nodes[1]
	var answers []chan error
	for i := range 500 {
		answers = append(answers, submit(s, fmt.Sprintf("k%03d", i)))
		if i == 250 {
			if err := <-answers[100]; err != nil {
				t.Error(err)
			}
			answers[100] <- nil
			primary.Kill()
			if err := standby.Promote(); err != nil {
				t.Fatal(err)
			}
			if err := c.Join(standby); err != nil { // a standby of the new primary
				t.Fatal(err)
			}
		}
	}
	for i, a := range answers {
		if err := <-a; err != nil {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	n := 0
	if err := s.ScanKeys([]byte("k"), nil, func([]byte) error { n++; return nil }); err != nil || n != 500 {
		t.Errorf("%d of 500, %v", n, err)
	}
}

// Where no standby is in step, tools such as Patroni may take synchronous replication off. The
// commits that wait are then released, and one disk alone has them.
func TestACommitThatWasReleasedWithoutAStandbyIsNotAcknowledged(t *testing.T) {
	c, s := pair(t, 2*time.Second)
	primary, standby := c.Nodes[0], c.Nodes[1]
	set := func(names string) {
		t.Helper()
		if _, err := primary.Query("alter system set synchronous_standby_names = '" + names + "'"); err != nil {
			t.Fatal(err)
		}
		reload(t, c)
	}
	standby.Shutdown()
	answer := submit(s, "k1")
	waitsForStandby(t, primary)
	set("")
	if err := <-answer; !errors.Is(err, store.ErrUnknown) {
		t.Errorf("answered with %v, want %v", err, store.ErrUnknown)
	}
	if err := <-submit(s, "k2"); !errors.Is(err, store.ErrAway) {
		t.Errorf("while no standby is asked for: %v", err)
	}
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	set("ANY 1 (*)")
	await.Until(t, "a commit", func() bool { return <-submit(s, "k3") == nil })
}
