package queue

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/internal/store/postgres/postgrestest"
	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

// Who takes a space over does not deliver at once what its relay was delivering.
func TestWhatWasInFlightAtATakeoverWaitsOneBackOff(t *testing.T) {
	cluster := postgrestest.Start(t, 0)
	o := postgres.Options{URL: cluster.URL(), Space: "a", Token: "lets the second one take it at once", Replication: postgres.None}
	b := newBenchOn(t, func() (storetest.Engine, error) { return postgres.Open(context.Background(), o) },
		Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Minute}}})
	id := b.accept("x", to("kurt@a.example"))
	b.claim().Sending()
	b.sync()

	taken, err := postgres.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	var said logs
	began := time.Now()
	q, err := Open(Options{Store: taken, Schedule: Schedule{Retry: []time.Duration{10 * time.Minute}}, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	m, err := q.Show(id)
	if err != nil || m.NextAttemptAt.Before(began.Add(5*time.Minute)) || !said.has("it may have been delivered") {
		t.Errorf("next attempt in %s, %v; the log: %v", time.Until(m.NextAttemptAt), err, said.has("it may have been delivered"))
	}
}
