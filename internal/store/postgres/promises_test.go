package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/pgtest"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	if _, err := pgtest.Programs(); err != nil {
		fmt.Println("skipped:", err)
		os.Exit(0)
	}
	c, err := pgtest.Start("", 1)
	if err == nil {
		_, err = postgres.Init(context.Background(), c.URL(), postgres.Required)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	cluster = c
	code := m.Run()
	c.Stop()
	os.Exit(code)
}

var spaces atomic.Int64

func newSpace() string { return fmt.Sprint("space ", spaces.Add(1)) }

// place is a space of the cluster, which is reached through a line that can be cut.
func place(space string) storetest.Place {
	line := &line{}
	return storetest.Place{
		Open: func(t *testing.T) storetest.Engine {
			s, err := postgres.Open(context.Background(), postgres.Options{
				URL: line.url(t), Space: space, Term: 20 * time.Second, Patience: 700 * time.Millisecond, Logger: logger(t),
			})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Crash: func(t *testing.T) storetest.Place {
			to := newSpace()
			query(t, fmt.Sprintf(`with made as (insert into stsrelay.spaces (name) values ('%s') returning id),
				counted as (insert into stsrelay.commits (space, number) select made.id, c.number from made, stsrelay.commits c join stsrelay.spaces s on s.id = c.space where s.name = '%s')
				insert into stsrelay.entries select made.id, key, value, rev from made, stsrelay.entries e join stsrelay.spaces s on s.id = e.space where s.name = '%s'`, to, space, space))
			return place(to)
		},
		Fail: func(e storetest.Engine) {
			_, err := primary().Query(fmt.Sprintf("update stsrelay.spaces set term = term + 1, until = '-infinity' where name = '%s'", space))
			if err != nil {
				panic(err)
			}
		},
		LoseAnswer: line.loseAnswer,
	}
}

func primary() *pgtest.Node {
	for _, n := range cluster.Nodes {
		if out, err := n.Query("select pg_is_in_recovery()"); err == nil && out == "f" {
			return n
		}
	}
	panic("no primary")
}

func query(t *testing.T, sql string) string {
	t.Helper()
	out, err := primary().Query(sql)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func TestTheEngineKeepsItsPromises(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Place { return place(newSpace()) })
}

var _ store.Store = (*postgres.Store)(nil)
