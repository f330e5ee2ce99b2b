package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/semaphore"

	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// viewers bounds the connections on which single values are read.
	viewers = 4
	// idleReaders is how many connections stay open that nobody reads on.
	idleReaders = 4
	// readTimeout bounds the reading of a value, or of a page of a scan.
	readTimeout = 30 * time.Second
	// readPatience is how long a reader waits while the server is away. A message that
	// cannot be read is held for the operator, so it is longer than any failover.
	readPatience = 10 * time.Minute
	// retryEvery is the time between two attempts while the server is away.
	retryEvery = 500 * time.Millisecond
)

// pool has the connections for readers.
type pool struct {
	config *pgconn.Config
	name   string
	views  *semaphore.Weighted

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

func newPool(config *pgconn.Config, name string) *pool {
	return &pool{config: config, name: name, views: semaphore.NewWeighted(viewers)}
}

func (p *pool) take() (*conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, store.ErrClosed
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	return connect(context.Background(), p.config, p.name)
}

// put takes a connection back, which err, if any, was met on.
func (p *pool) put(c *conn, err error) {
	p.mu.Lock()
	if keep := err == nil && !p.closed && len(p.idle) < idleReaders; keep {
		p.idle = append(p.idle, c)
		c = nil
	}
	p.mu.Unlock()
	if c != nil {
		c.close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// read calls fn with a connection. As long as fn is told to be repeatable and the server
// is away, it is called again, so that a failover is a slow read and no error.
func (p *pool) read(fn func(*conn) (repeat bool, err error)) error {
	deadline := time.Now().Add(readPatience)
	for {
		repeat := true
		c, err := p.take()
		if err == nil {
			repeat, err = fn(c)
			p.put(c, err)
		}
		if !repeat || !errors.Is(err, errLost) && !errors.Is(err, errLater) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(retryEvery)
	}
}

// View implements store.Store.
func (s *Store) View(key []byte, fn func(value []byte) error) error {
	value, err := s.reads.get(s.term.space, key)
	if err == nil && value != nil {
		err = fn(value)
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	return nil
}

// get returns the value of key, nil for none.
func (p *pool) get(space int64, key []byte) (value []byte, err error) {
	_ = p.views.Acquire(context.Background(), 1) // it is released soon by whoever has it
	defer p.views.Release(1)
	err = p.read(func(c *conn) (bool, error) {
		value = nil
		err := c.query(readTimeout, "select value from stsrelay.entries where space = $1 and key = $2",
			[]param{number(space), octets(key)}, func(row [][]byte) { value = append([]byte{}, row[0]...) })
		return true, err
	})
	if p, ok := errors.AsType[*pgconn.PgError](err); ok && (p.Code == "XX001" || p.Code == "XX002") {
		return nil, &store.ValueError{Key: append([]byte{}, key...)}
	}
	return value, err
}

// Scan implements store.Store.
func (s *Store) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	return s.reads.scan(s.term.space, "key, value", prefix, from, func(row [][]byte) error { return fn(row[0], row[1]) })
}

// ScanKeys implements store.Store.
func (s *Store) ScanKeys(prefix, from []byte, fn func(key []byte) error) error {
	return s.reads.scan(s.term.space, "key", prefix, from, func(row [][]byte) error { return fn(row[0]) })
}

// scan reads by a cursor, in pages: what one statement sees is of one moment, and a
// reader that stops early has not asked for the rest.
func (p *pool) scan(space int64, columns string, prefix, from []byte, fn func(row [][]byte) error) error {
	if from == nil {
		from = prefix
	}
	return p.read(func(c *conn) (repeat bool, err error) {
		if err := declare(c, space, columns, prefix, from); err != nil {
			return true, err
		}
		repeat = true // until fn has seen something
		for fetch := 20; ; fetch = min(2*fetch, 500) {
			rows, err := c.page(fetch)
			if err != nil {
				return repeat, err
			}
			repeat = repeat && len(rows) == 0
			for _, row := range rows {
				if err := fn(row); err != nil {
					if errors.Is(err, store.Stop) {
						return false, c.exec(readTimeout, "rollback")
					}
					return false, errors.Join(err, c.exec(readTimeout, "rollback"))
				}
			}
			if len(rows) < fetch {
				return false, c.exec(readTimeout, "rollback")
			}
		}
	})
}

// declare opens the cursor of a scan.
func declare(c *conn, space int64, columns string, prefix, from []byte) error {
	if err := c.exec(readTimeout, "begin read only"); err != nil {
		return err
	}
	params := []param{number(space), octets(from)}
	end := ""
	if e := successor(prefix); e != nil {
		params = append(params, octets(e))
		end = " and key < $3"
	}
	return c.query(readTimeout, "declare entries no scroll cursor for select "+columns+
		" from stsrelay.entries where space = $1 and key >= $2"+end+" order by space, key", params, nil)
}

// page returns the next rows of the cursor.
func (n *conn) page(most int) (rows [][][]byte, err error) {
	sql := fmt.Sprintf("fetch forward %d from entries", most)
	err = n.within(readTimeout, func() error {
		r := n.pg.ExecParams(context.Background(), sql, nil, nil, nil, []int16{binaryFormat})
		for r.NextRow() {
			row := make([][]byte, len(r.Values()))
			for i, v := range r.Values() {
				row[i] = append([]byte{}, v...)
			}
			rows = append(rows, row)
		}
		_, err := r.Close()
		return err
	})
	return rows, err
}

// successor returns the first key behind those that begin with prefix, nil for none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return append(append([]byte{}, prefix[:i]...), prefix[i]+1)
		}
	}
	return nil
}
