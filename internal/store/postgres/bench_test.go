package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

// Mails of 10 KiB by 64 writers: through the engine, and as bare inserts of the same rows,
// each statement with as many rows as wait.
func BenchmarkAcceptance(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 10<<10)
	envelope := bytes.Repeat([]byte("e"), 300)
	b.Run("engine", func(b *testing.B) {
		s, err := postgres.Open(context.Background(), postgres.Options{URL: cluster.URL(), Space: newSpace()})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		write(b, func(n int64) error {
			var batch store.Batch
			batch.Set(fmt.Appendf(nil, "b%012d", n), body)
			batch.Set(fmt.Appendf(nil, "e%012d", n), envelope)
			return store.Commit(context.Background(), s, &batch)
		})
	})
	b.Run("bare", func(b *testing.B) {
		ctx := context.Background()
		c, err := pgconn.Connect(ctx, cluster.URL())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close(ctx)
		if err := c.Exec(ctx, "create table if not exists bare (key bytea primary key, value bytea); truncate bare; alter table bare alter column value set storage external").Close(); err != nil {
			b.Fatal(err)
		}
		waiting := make(chan chan error, 1000)
		var last atomic.Int64
		go func() {
			for done := range waiting {
				group := []chan error{done}
				for len(waiting) > 0 {
					group = append(group, <-waiting)
				}
				sql := bytes.NewBufferString("insert into bare values ")
				var values [][]byte
				for i := range group {
					n := last.Add(1)
					values = append(values, fmt.Appendf(nil, "b%012d", n), body, fmt.Appendf(nil, "e%012d", n), envelope)
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
				for _, done := range group {
					done <- err
				}
			}
		}()
		write(b, func(int64) error {
			done := make(chan error, 1)
			waiting <- done
			return <-done
		})
		close(waiting)
	})
}

// write calls fn b.N times, from 64 goroutines.
func write(b *testing.B, fn func(n int64) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := fn(n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
}
