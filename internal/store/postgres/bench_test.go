package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

var (
	benchBody     = bytes.Repeat([]byte("x"), 10<<10)
	benchEnvelope = bytes.Repeat([]byte("e"), 300)
)

// BenchmarkAcceptance takes mails of 10 KiB by 64 writers: through the engine, and as bare
// inserts of the same rows, each statement with as many rows as wait. The two take turns,
// since what else the machine does would weigh more than their difference. The share is
// the median of the pairs.
func BenchmarkAcceptance(b *testing.B) {
	const block = 1000
	engine, bare := engineWriter(b), bareWriter(b)
	var next atomic.Int64
	var shares, engines, bares []float64
	b.ResetTimer()
	for b.Loop() {
		first, second := rate(b, block, &next, engine), rate(b, block, &next, bare)
		third, fourth := rate(b, block, &next, bare), rate(b, block, &next, engine)
		shares = append(shares, (first+fourth)/(second+third))
		engines, bares = append(engines, (first+fourth)/2), append(bares, (second+third)/2)
	}
	b.ReportMetric(median(shares), "share")
	b.ReportMetric(median(engines), "mails/s")
	b.ReportMetric(median(bares), "bare/s")
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// engineWriter returns a function that takes mail n through the engine.
func engineWriter(b *testing.B) func(n int64) error {
	b.Helper()
	s, err := postgres.Open(context.Background(), postgres.Options{URL: cluster.URL(), Space: newSpace()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return func(n int64) error {
		var batch store.Batch
		batch.Set(fmt.Appendf(nil, "b%012d", n), benchBody)
		batch.Set(fmt.Appendf(nil, "e%012d", n), benchEnvelope)
		return store.Commit(context.Background(), s, &batch)
	}
}

// bareWriter returns a function that inserts the rows of mail n.
func bareWriter(b *testing.B) func(n int64) error {
	b.Helper()
	ctx := context.Background()
	c, err := pgconn.Connect(ctx, cluster.URL())
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Exec(ctx, "create table if not exists bare (key bytea primary key, value bytea); truncate bare; alter table bare alter column value set storage external").Close(); err != nil {
		b.Fatal(err)
	}
	type mail struct {
		n    int64
		done chan error
	}
	waiting := make(chan mail, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for m := range waiting {
			group := []mail{m}
			for len(waiting) > 0 {
				group = append(group, <-waiting)
			}
			sql := bytes.NewBufferString("insert into bare values ")
			var values [][]byte
			for i, m := range group {
				values = append(values, fmt.Appendf(nil, "b%012d", m.n), benchBody, fmt.Appendf(nil, "e%012d", m.n), benchEnvelope)
				if i > 0 {
					sql.WriteString(", ")
				}
				fmt.Fprintf(sql, "($%d, $%d), ($%d, $%d)", 4*i+1, 4*i+2, 4*i+3, 4*i+4)
			}
			formats := make([]int16, len(values))
			for i := range formats {
				formats[i] = 1
			}
			_, err := c.ExecParams(ctx, sql.String(), values, nil, formats, nil).Close()
			for _, m := range group {
				m.done <- err
			}
		}
	}()
	b.Cleanup(func() {
		close(waiting)
		<-ended
		_ = c.Close(ctx)
	})
	return func(n int64) error {
		done := make(chan error, 1)
		waiting <- mail{n, done}
		return <-done
	}
}

// rate calls fn for so many mails from 64 goroutines, and returns how many a second were
// taken.
func rate(b *testing.B, mails int64, next *atomic.Int64, fn func(n int64) error) float64 {
	b.Helper()
	var taken atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 64 {
		wg.Go(func() {
			for taken.Add(1) <= mails {
				if err := fn(next.Add(1)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(mails) / time.Since(began).Seconds()
}
