package postgres

import (
	"context"
	"fmt"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Neighbor is another space, which anybody may hold. It implements store.Reader.
type Neighbor struct {
	// Name is the name of the space.
	Name string
	id   int64
	own  *Store
}

// Neighbors returns the other spaces in the database.
func (s *Store) Neighbors(ctx context.Context) (list []*Neighbor, err error) {
	err = s.reads.within(ctx, func(c *conn) error {
		list = nil
		return c.query(readTimeout, "select id, name from stsrelay.spaces where id <> $1 order by name", []param{number(s.term.space)}, func(row [][]byte) {
			list = append(list, &Neighbor{Name: string(row[1]), id: integer(row[0]), own: s})
		})
	})
	return list, err
}

// Rows returns the first rows of a range, in the order of their keys, most of them at
// most.
func (n *Neighbor) Rows(ctx context.Context, r store.Range, most int) (rows []store.Row, err error) {
	err = n.own.reads.within(ctx, func(c *conn) error {
		rows = nil
		return c.query(readTimeout, "select key, value, rev from stsrelay.entries where space = $1 and key >= $2 and key < $3 order by space, key limit $4",
			[]param{number(n.id), octets(r.From), octets(r.To), number(int64(most))}, func(row [][]byte) {
				rows = append(rows, store.Row{Key: append([]byte{}, row[0]...), Value: append([]byte{}, row[1]...), Rev: integer(row[2])})
			})
	})
	return rows, err
}

// Move deletes the rows of ranges in the other space, and makes the changes of b in the own
// one, in one transaction. It does so only if the ranges have exactly these rows: else the
// error wraps store.ErrChanged. The writer of the other space forgets what it remembers of it.
func (n *Neighbor) Move(ctx context.Context, b *store.Batch, ranges []store.Range, rows []store.Row) error {
	m := &move{space: n.id, count: int64(len(rows))}
	for _, r := range ranges {
		m.from, m.to = append(m.from, r.From), append(m.to, r.To)
	}
	for i := range rows {
		m.revs += rows[i].Rev
	}
	done := make(chan error, 1)
	n.own.submit(b, m, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Fence raises the fence of the other space: its writer is refused what it has not written
// yet, and must ask the server before it writes again.
func (n *Neighbor) Fence(ctx context.Context) error {
	return n.own.reads.within(ctx, func(c *conn) error {
		return c.query(readTimeout, "update stsrelay.commits set fence = fence + 1 where space = $1", []param{number(n.id)}, nil)
	})
}

// move is what a transaction deletes in another space. A change of rows there raises their
// number or the sum of their revs, because a later transaction has a higher number.
type move struct {
	space       int64
	from, to    [][]byte
	count, revs int64
}

// within calls fn with a connection for readers. Unlike read, it does not wait while the
// server is away.
func (p *pool) within(ctx context.Context, fn func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := p.take()
	if err != nil {
		return err
	}
	err = fn(c)
	p.put(c, err)
	if err != nil {
		return fmt.Errorf("read another space: %w", err)
	}
	return nil
}

// View implements store.Reader.
func (n *Neighbor) View(key []byte, fn func(value []byte) error) error {
	value, err := n.own.reads.get(n.id, key)
	if err == nil && value != nil {
		err = fn(value)
	}
	return err
}

// Scan implements store.Reader.
func (n *Neighbor) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	return n.own.reads.scan(n.id, "key, value", prefix, from, func(row [][]byte) error { return fn(row[0], row[1]) })
}

// ScanKeys implements store.Reader.
func (n *Neighbor) ScanKeys(prefix, from []byte, fn func(key []byte) error) error {
	return n.own.reads.scan(n.id, "key", prefix, from, func(row [][]byte) error { return fn(row[0]) })
}
