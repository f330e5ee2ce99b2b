package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// renewEvery is the part of the term after which it is renewed.
const renewEvery = 4

// margin is how much earlier than the server a relay takes its term for ended.
func margin(length time.Duration) time.Duration { return length / 10 }

// term is the right to write a space.
type term struct {
	space  int64
	number int64
	length time.Duration
	// until is when the term may have ended, as time since started: monotonic time counts
	// also while the process does not run.
	started time.Time
	until   atomic.Int64
	// wanted is the relay that asks for the space; "": none.
	wanted atomic.Value

	mu   sync.Mutex // for conn
	conn *conn      // for renewals; nil: none is open
}

// holds reports whether the term holds for certain.
func (t *term) holds() bool { return int64(time.Since(t.started)) < t.until.Load() }

// extend remembers that the term was renewed by a statement that was sent at from.
func (t *term) extend(from time.Time) {
	t.until.Store(int64(from.Add(t.length - margin(t.length)).Sub(t.started)))
}

// take takes the space: one that nobody holds, or that the same data folder held.
func take(c *conn, o *Options) (*term, error) {
	t := &term{length: o.Term, started: time.Now()}
	t.wanted.Store("")
	err := c.query(sqlTimeout, `with made as (
		insert into stsrelay.spaces (name) values ($1) on conflict (name) do nothing returning id
	) insert into stsrelay.commits (space) select id from made`, []param{text(o.Space)}, nil)
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	err = c.query(sqlTimeout, `update stsrelay.spaces set term = term + 1, holder = $2, token = $3, since = clock_timestamp(),
		until = clock_timestamp() + make_interval(secs => $4), wanted_by = ''
		where name = $1 and (until < clock_timestamp() or $3 <> '' and token = $3 or token = '`+reserved+`' and holder = $2) returning id, term`,
		[]param{text(o.Space), text(o.Holder), text(o.Token), seconds(o.Term)}, func(row [][]byte) {
			t.space, t.number = integer(row[0]), integer(row[1])
		})
	if err != nil {
		return nil, err
	}
	if t.number == 0 {
		return nil, ErrHeld
	}
	t.extend(sent)
	return t, nil
}

// sqlTimeout bounds small statements that are no commits of mail.
const sqlTimeout = 10 * time.Second

func integer(v []byte) int64 {
	n, _ := strconv.ParseInt(string(v), 10, 64) // it comes from a column of that type
	return n
}

// renew renews the term until ctx ends.
func (s *Store) renew(ctx context.Context) {
	ticker := time.NewTicker(s.o.Term / renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.Err() != nil {
			return
		}
		if err := s.renewNow(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errTerm) {
			s.o.Logger.Warn("the term was not renewed", "space", s.o.Space, "holds", s.term.holds(), "error", err)
		}
	}
}

// renewNow renews the term, also one that has run out and that nobody has taken: the
// number tells. It lets the store fail where another relay has taken it.
func (s *Store) renewNow(ctx context.Context) error {
	t := s.term
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		c, err := connect(ctx, s.config, s.o.Holder)
		if err != nil {
			return err
		}
		t.conn = c
	}
	sent, found := time.Now(), false
	err := t.conn.query(sqlTimeout, `update stsrelay.spaces set until = clock_timestamp() + make_interval(secs => $3)
		where id = $1 and term = $2 returning wanted_by`,
		[]param{number(t.space), number(t.number), seconds(t.length)}, func(row [][]byte) {
			found = true
			t.wanted.Store(string(row[0]))
		})
	if err != nil {
		t.conn.close()
		t.conn = nil
		return err
	}
	if !found {
		err := fmt.Errorf("%w: the space %s was taken by another relay: %w", store.ErrFailed, s.o.Space, errTerm)
		s.fail(err)
		return err
	}
	t.extend(sent)
	return nil
}

// reserved is the token of a space that is kept for its holder, who has asked for it and
// has not taken it yet.
const reserved = "reserved"

// release gives the term back: another relay can take the space at once. If one has asked
// for it, it alone can for some seconds.
func (t *term) release(c *conn) error {
	return c.query(sqlTimeout, `update stsrelay.spaces set
		until = case when wanted_by = '' then '-infinity'::timestamptz else clock_timestamp() + interval '10 seconds' end,
		holder = wanted_by, token = case when wanted_by = '' then '' else '`+reserved+`' end
		where id = $1 and term = $2`,
		[]param{number(t.space), number(t.number)}, nil)
}

func (t *term) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		t.conn.close()
		t.conn = nil
	}
}

// WantedBy returns the relay that has asked for this space to be handed back, "" for none.
func (s *Store) WantedBy() string { return s.term.wanted.Load().(string) }

// Space returns the name of the space.
func (s *Store) Space() string { return s.o.Space }

// Term returns the number of the term by which the space is held.
func (s *Store) Term() int64 { return s.term.number }

// Length is how long the space is held without renewal.
func (s *Store) Length() time.Duration { return s.o.Term }
