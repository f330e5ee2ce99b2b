package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/pgtest"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

func openSpace(t *testing.T, o postgres.Options) (*postgres.Store, error) {
	t.Helper()
	o.URL, o.Logger = cluster.URL(), logger(t)
	s, err := postgres.Open(context.Background(), o)
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

func TestASpaceHasOneWriter(t *testing.T) {
	space := newSpace()
	first, err := openSpace(t, postgres.Options{Space: space, Holder: "one", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-submit(first, "k1"); err != nil {
		t.Fatal(err)
	}
	if _, err := openSpace(t, postgres.Options{Space: space, Holder: "two"}); !errors.Is(err, postgres.ErrHeld) {
		t.Fatalf("a second relay: %v", err)
	}
	query(t, "update stsrelay.spaces set until = now() - interval '1 second' where name = '"+space+"'")
	second, err := openSpace(t, postgres.Options{Space: space, Holder: "two"})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := store.Get(second, []byte("k1")); string(v) != "v" {
		t.Errorf("it finds %q, %v", v, err)
	}
	if err := <-submit(first, "k2"); !errors.Is(err, store.ErrFailed) {
		t.Errorf("the first one writes: %v", err)
	}
	if first.Holds() || !first.Stalled() || !errors.Is(first.Err(), store.ErrFailed) {
		t.Errorf("holds %v, stalled %v, %v", first.Holds(), first.Stalled(), first.Err())
	}
	if err := <-submit(second, "k3"); err != nil || second.Term() <= first.Term() {
		t.Errorf("term %d after %d, %v", second.Term(), first.Term(), err)
	}
}

func TestATermThatHasRunOutAndThatNobodyHasTakenGoesOn(t *testing.T) {
	space := newSpace()
	s, err := openSpace(t, postgres.Options{Space: space})
	if err != nil {
		t.Fatal(err)
	}
	query(t, "update stsrelay.spaces set until = now() - interval '1 second' where name = '"+space+"'")
	if err := <-submit(s, "k1"); err != nil {
		t.Error(err)
	}
}

func TestTheSameDataFolderTakesItsSpaceBackAtOnce(t *testing.T) {
	o := postgres.Options{Space: newSpace(), Token: "of the folder"}
	if _, err := openSpace(t, o); err != nil {
		t.Fatal(err)
	}
	if _, err := openSpace(t, o); err != nil {
		t.Errorf("after a crash: %v", err)
	}
}

func TestAStopGivesTheSpaceBackAtOnce(t *testing.T) {
	o := postgres.Options{Space: newSpace()}
	s, err := openSpace(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openSpace(t, o); err != nil {
		t.Error(err)
	}
}

func TestAServerThatMayLoseMailIsRefused(t *testing.T) {
	c, err := pgtest.Start("", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	ctx := context.Background()
	open := func(r postgres.Replication) error {
		s, err := postgres.Open(ctx, postgres.Options{URL: c.URL(), Space: "a", Replication: r})
		if err == nil {
			_ = s.Close()
		}
		return err
	}
	if err := open(postgres.Managed); !errors.Is(err, postgres.ErrSettings) || !strings.Contains(err.Error(), "stsrelay fleet init") {
		t.Errorf("without a schema: %v", err)
	}
	if _, err := postgres.Init(ctx, c.URL(), postgres.Required); !errors.Is(err, postgres.ErrSettings) || !strings.Contains(err.Error(), "synchronous_standby_names") {
		t.Errorf("init without standbys: %v", err)
	}
	for _, want := range []bool{true, false} {
		if made, err := postgres.Init(ctx, c.URL(), postgres.None); made != want || err != nil {
			t.Errorf("init: made %v, %v; want %v", made, err, want)
		}
	}
	for _, row := range []struct{ setting, value, word string }{
		{"fsync", "off", "fsync"},
		{"full_page_writes", "off", "full_page_writes"},
		{"synchronous_commit", "local", "synchronous_commit"},
		{"", "", ""},
	} {
		if row.setting != "" {
			if _, err := c.Nodes[0].Query("alter system set " + row.setting + " = " + row.value); err != nil {
				t.Fatal(err)
			}
		}
		reload(t, c)
		err := open(postgres.None)
		if row.setting == "" {
			if err != nil {
				t.Errorf("as it should be: %v", err)
			}
			continue
		}
		if !errors.Is(err, postgres.ErrSettings) || !strings.Contains(err.Error(), row.word) {
			t.Errorf("%s = %s: %v", row.setting, row.value, err)
		}
		if _, err := c.Nodes[0].Query("alter system reset " + row.setting); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Nodes[0].Query("update stsrelay.version set number = 99"); err != nil {
		t.Fatal(err)
	}
	if err := open(postgres.None); err != nil {
		t.Errorf("a newer schema that this program can work with: %v", err)
	}
	if _, err := c.Nodes[0].Query("update stsrelay.version set least = 98"); err != nil {
		t.Fatal(err)
	}
	if err := open(postgres.None); !errors.Is(err, postgres.ErrSettings) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer schema: %v", err)
	}
}

// reload lets the server read its configuration, and waits until that is done.
func reload(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	before, err := c.Nodes[0].Query("select pg_conf_load_time()")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Nodes[0].Query("select pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the new configuration", func() bool {
		now, err := c.Nodes[0].Query("select pg_conf_load_time()")
		return err == nil && now != before
	})
}
