// Package postgres is the engine for several relays that share one PostgreSQL (15 or
// later), which replicates by itself.
//
// What one relay writes is a space, in a table with the space in front of each key. A
// relay holds its space by a term: a row with the term's number and the time until which it
// holds, by the server's clock. Each transaction locks that row and is refused when the
// term is over, so that a space has one writer at any time.
//
// All changes go through one committer, which puts all batches that wait into one
// transaction. Each transaction has the next number of the space. When a connection is
// lost during a commit, the number tells whether it was made.
//
// PostgreSQL says in three cases that a commit is done while one disk alone has it: when a
// commit that waits for the standbys is cancelled, when a row is read again that was
// written before a restart of the primary, and when replication is switched off meanwhile.
// So this package never cancels, takes a warning as an outcome that nobody knows, reads the
// number only together with a write, and asks for the settings after each commit.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
)

// Options configures Open. URL and Space are required.
type Options struct {
	// URL is the DSN of the database: a postgres:// URL or keyword=value pairs. It may
	// name several servers; the one that can be written to is used.
	URL string
	// Space is the name of the space. It is created if it does not exist.
	Space string
	// Holder is the name of the relay that opens the space. Default: Space.
	Holder string
	// Token is a secret of the relay's data folder. A relay that starts anew takes back,
	// by its token, what it holds still. "": none.
	Token string
	// Term is how long the space is held without renewal. Default 20 s.
	Term time.Duration
	// Replication is what is asked of the server; see Replication. Default Required.
	Replication Replication
	// Patience is how long a batch waits while the server is away. Default 60 s.
	Patience time.Duration
	// Committed is called after every transaction with the number of batches in it and
	// the time that it took. It must be quick. May be nil.
	Committed func(batches int, took time.Duration)
	// Logger receives the log of the store. nil discards it.
	Logger *slog.Logger
}

// DefaultTerm is the default of Options.Term.
const DefaultTerm = 20 * time.Second

func (o *Options) setDefaults() {
	if o.Holder == "" {
		o.Holder = o.Space
	}
	if o.Term == 0 {
		o.Term = DefaultTerm
	}
	if o.Replication == "" {
		o.Replication = Required
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Committed == nil {
		o.Committed = func(int, time.Duration) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Store is an open space. It keeps the promises of store.Store.
type Store struct {
	o      Options
	config *pgconn.Config
	term   *term
	reads  *pool

	mu      sync.Mutex
	pending []*request
	urgent  bool // a pending batch is not deferrable
	closed  bool
	failure error         // wraps store.ErrFailed
	wake    chan struct{} // capacity 1; signals a pending batch, or closed

	away  atomic.Int64 // since when the server is away, in nanoseconds since started; 0: it is there
	full  atomic.Bool  // the disk of the server is full
	write writer       // only the committer uses it

	stop       context.CancelFunc
	committer  sync.WaitGroup
	background sync.WaitGroup
	started    time.Time
}

var _ store.Store = (*Store)(nil)

// ErrHeld is wrapped by the error of Open where another relay holds the space.
var ErrHeld = errors.New("another relay holds the space")

// Open takes the space and opens it.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.setDefaults()
	config, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, config: config, wake: make(chan struct{}, 1), started: time.Now()}
	s.reads = newPool(config, o.Holder)
	s.write = writer{s: s}
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	s.term, err = take(c, &s.o)
	if err == nil {
		s.write.conn = c
		err = s.write.confirm(time.Now().Add(o.Patience))
	}
	if err != nil {
		c.close()
		if s.term != nil {
			s.term.close()
		}
		return nil, fmt.Errorf("open the space %s: %w", o.Space, err)
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.committer.Go(s.commitLoop)
	s.background.Go(func() { s.renew(background) })
	return s, nil
}

// connect opens a connection for the committer, to a server that is as the configuration
// wants it.
func (s *Store) connect(ctx context.Context) (*conn, error) {
	c, err := connect(ctx, s.config, s.o.Holder)
	if err != nil {
		return nil, err
	}
	if err := inspect(c, s.o.Replication); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// Close writes what was submitted before it, as long as Options.Patience allows, gives the
// term back, and waits until every answer was given.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.signal()
	s.committer.Wait()
	s.stop()
	s.background.Wait()
	var err error
	if s.Err() == nil && s.write.conn != nil {
		err = s.term.release(s.write.conn)
	}
	s.write.drop()
	s.term.close()
	s.reads.close()
	return err
}

// Err implements store.Store.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = err
		s.o.Logger.Error("the space is not held any more; nothing is written to it", "space", s.o.Space, "error", err)
	}
}

// Stalled implements store.Store: deliveries go on as long as the term holds.
func (s *Store) Stalled() bool { return s.Err() != nil || s.full.Load() || !s.Holds() }

// Holds reports whether the term holds for certain, by the clock of this machine: nobody
// else can have taken the space over.
func (s *Store) Holds() bool { return s.Err() == nil && s.term.holds() }

// CheckSpace implements store.Store. The error wraps store.ErrAway when the server has
// been away for so long that a message would be refused.
func (s *Store) CheckSpace(int64) error {
	if s.full.Load() {
		return phrase.Errorf("%w: that of PostgreSQL", store.ErrDiskFull)
	}
	if s.awayFor() > s.o.Patience {
		return fmt.Errorf("%w: PostgreSQL cannot be reached", store.ErrAway)
	}
	return nil
}

// Away reports whether the server is away.
func (s *Store) Away() bool { return s.away.Load() != 0 }

func (s *Store) awayFor() time.Duration {
	since := s.away.Load()
	if since == 0 {
		return 0
	}
	return time.Since(s.started) - time.Duration(since)
}

// setAway remembers whether the server is away, and logs a change. It reports whether the
// server was there before.
func (s *Store) setAway(err error) (first bool) {
	if err == nil {
		if since := s.away.Swap(0); since != 0 {
			s.o.Logger.Info("PostgreSQL is there again", "space", s.o.Space, "away", (time.Since(s.started) - time.Duration(since)).Round(time.Millisecond))
		}
		return false
	}
	if first = s.away.CompareAndSwap(0, max(1, int64(time.Since(s.started)))); first {
		s.o.Logger.Warn("PostgreSQL is away; changes wait", "space", s.o.Space, "error", err)
	}
	return first
}
