// Package badger is the storage engine for a relay with its own disk: a Badger database
// with one committer.
//
// All changes go through the committer. It combines all waiting batches into one
// transaction, so that they share the cost of one fsync; Badger has no group commit of
// its own. A change is acknowledged after that fsync and never before.
//
// The package also guards against the cases in which Badger loses data without an error:
// a failed fsync that Badger only logs, a disk that runs full under a memory map, and
// damaged files. It verifies the files before Badger opens them.
package badger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Options configures Open. Only Dir is required.
type Options struct {
	// Dir is the folder of the store. It is created if it does not exist.
	Dir string
	// FreeSpace is the number of bytes that CheckSpace keeps free on the file
	// system. Less than store.Floor counts as store.Floor.
	FreeSpace int64
	// Ballast is the size in bytes of a file that is deleted when the disk is full, so
	// that the store can still be opened. 0: no ballast file.
	Ballast int64
	// GCInterval is the time between two garbage collections of the value log.
	// Default 1 s.
	GCInterval time.Duration
	// Committed is called after every transaction with the number of batches in it and
	// the time that it took, fsync included. The committer calls it, so it must be
	// quick. May be nil.
	Committed func(batches int, took time.Duration)
	// Version is the version of the program, which the store notes; "": "dev".
	Version string
	// Free measures the free bytes of a folder's file system. Default: statfs.
	Free func(dir string) (int64, error)
	// Logger receives the log of the store and of Badger. nil discards it.
	Logger *slog.Logger
}

// Store is an open database. It keeps the promises of store.Store.
type Store struct {
	db      *badger.DB
	dir     string
	version string
	log     *slog.Logger
	failure *failure
	space   space

	reserve  *reserver // only the committer uses it
	filling  filling
	writing  sync.Mutex // held for each transaction, and while a value log is collected
	state    State      // only the committer uses it
	identity *identity
	damage   store.Damage
	unsound  map[uint32]bool // damaged value logs, which are not collected; only gc uses it

	mu      sync.Mutex
	pending []*request
	urgent  bool          // a pending batch is not deferrable
	lingers time.Duration // how long deferrable batches wait for others; deferredFor
	closed  bool
	wake    chan struct{} // capacity 1; signals a pending batch, or closed
	stalled atomic.Bool
	epoch   int // for Txn.Epoch; only the committer uses it

	stop       context.CancelFunc
	background sync.WaitGroup // gc, space watch and identity
	committer  sync.WaitGroup
	committed  func(batches int, took time.Duration)
	commits    atomic.Int64 // transactions so far
}

// Open opens the store in o.Dir, or creates it. It refuses a folder that another process
// uses, a file system without memory maps, msync and locks, and a disk with less than
// store.Floor free if there is no ballast file to delete. The error is a *DamageError if
// the store is damaged, or is not the store that was there before, and a *store.FormatError
// if a newer version of the program has written it. A store of an older format is migrated.
func Open(o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.GCInterval == 0 {
		o.GCInterval = time.Second
	}
	if o.Committed == nil {
		o.Committed = func(int, time.Duration) {}
	}
	recent := o.Free
	if o.Free == nil {
		o.Free, recent = freeBytes, remembered(freeBytes)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	if err := probe(o.Dir); err != nil {
		return nil, err
	}
	s := &Store{
		dir:       o.Dir,
		version:   cmp.Or(o.Version, "dev"),
		log:       o.Logger,
		failure:   &failure{log: o.Logger},
		wake:      make(chan struct{}, 1),
		lingers:   deferredFor,
		committed: o.Committed,
		unsound:   make(map[uint32]bool),
	}
	s.space = space{dir: o.Dir, free: o.Free, recent: recent, limit: max(o.FreeSpace, store.Floor), ballast: o.Ballast, log: o.Logger}
	if err := s.openBadger(); err != nil {
		return nil, err
	}
	s.reserve = newReserver(o.Dir)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.committer.Go(s.commitLoop)
	s.background.Go(func() { s.gc(ctx, o.GCInterval) })
	s.background.Go(func() { s.space.watch(ctx) })
	s.background.Go(func() { s.keepIdentity(ctx) })
	return s, nil
}

// openBadger verifies the files and opens the database and the identity file. Nothing is
// changed before the store is known to be one that may be opened.
func (s *Store) openBadger() error {
	unlock, err := lockShared(s.dir) // a write by another process would look like damage
	if err != nil {
		return openError(s.dir, err)
	}
	if err := mayOpen(s.dir, os.O_RDWR); err != nil {
		unlock()
		return err
	}
	v, err := verify(s.dir)
	if err == nil {
		err = v.refusal(s.dir, s.version)
	}
	if err == nil {
		err = s.space.prepare()
	}
	if err == nil {
		err = v.prepare(s.dir)
	}
	unlock()
	if err != nil {
		return err
	}
	s.damage = store.Damage{Keys: v.unreadable, Said: v.said}
	for _, said := range v.said {
		s.log.Error("the store is not as it should be", "dir", s.dir, "what", said)
	}
	if s.db, err = badger.Open(BadgerOptions(s.dir, s.failure)); err != nil {
		return openError(s.dir, err)
	}
	s.state = v.state
	if v.recorded == nil {
		s.state.ID = newID()
	} else {
		s.state.ID, s.state.Commits = v.recorded.ID, v.recorded.Commits
		s.state.Highest = max(s.state.Highest, v.recorded.Highest)
	}
	if err = s.migrate(v); err == nil {
		err = s.write(nil) // the State as it was read
	}
	if err == nil {
		s.identity, err = openIdentity(s.dir, &s.state)
	}
	if err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// Damage returns the damage that was found when the store was opened.
func (s *Store) Damage() store.Damage { return s.damage }

// BadgerOptions returns the options chosen by the measurements in docs/store.md. Bodies
// are in the value log and envelopes in the tree (threshold 1 KiB). The memtable is
// small and one level-zero table is compacted already, because the garbage collection does
// not see garbage until it is compacted. Value-log files are small, because the active one can
// never be collected. There is no cache or compression, because every body is written
// once and read once. Checksums are verified on reading, because a damaged body must not
// be sent.
func BadgerOptions(dir string, l badger.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(valueLogFileSize).
		WithMemTableSize(memTableSize).
		WithNumLevelZeroTables(1).
		WithNumLevelZeroTablesStall(10).
		WithNumMemtables(5).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithVerifyValueChecksum(true).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithNumVersionsToKeep(1).
		WithLogger(l)
}

func openError(dir string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("the store in %s cannot be opened: %w; the user that runs the relay must own the folder and all files in it", dir, err)
	}
	if isLocked(err) {
		return fmt.Errorf("the store in %s is in use by another process; stop that one, or give this one a data_dir of its own: %w", dir, err)
	}
	return fmt.Errorf("open the store in %s: %w", dir, err)
}

// Close commits the pending batches, stops the background work and closes Badger.
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
	s.reserve.filling.Wait()
	s.stop()
	s.background.Wait()
	if err := errors.Join(s.closeBadger(), s.identity.close()); err != nil {
		return fmt.Errorf("close the store in %s: %w", s.dir, err)
	}
	return nil
}

// closeBadger closes Badger, which writes a table through a memory map then, and may merge it
// with others. Where the disk has no room for that, SIGBUS would end the process: Badger stays
// open, as after a kill, until the process has ended. All that was committed is in its logs.
func (s *Store) closeBadger() error {
	if free, err := s.space.free(s.dir); err == nil && free < closingSpace {
		return fmt.Errorf("%w: %s has %s free; what was accepted is in its logs, which the next start reads", store.ErrDiskFull, s.dir, mebibytes(free))
	}
	return s.db.Close()
}

// Err returns the error that made the store fail, nil while it works.
func (s *Store) Err() error { return s.failure.err() }

// View calls fn with the value of key. The value is valid only during the call and must
// not be changed. If the key does not exist, fn is not called. If the value is damaged,
// the error wraps a *ValueError.
func (s *Store) View(key []byte, fn func(value []byte) error) error {
	err := s.db.View(func(txn *badger.Txn) error { return view(txn, key, fn) })
	if err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	return nil
}

func view(txn *badger.Txn, key []byte, fn func(value []byte) error) error {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return value(item, fn)
}

// value is item.Value, but returns an error for a value that cannot be read. Badger
// itself only logs such a value and returns an empty one.
func value(item *badger.Item, fn func([]byte) error) error {
	return item.Value(func(stored []byte) error {
		v, ok := unseal(item.Key(), item.UserMeta(), stored)
		if !ok || len(stored) == 0 && item.ValueSize() > 0 {
			return &store.ValueError{Key: item.KeyCopy(nil)}
		}
		return fn(v)
	})
}

// Scan calls fn in order for every key that begins with prefix and is not below from
// (nil: from the first key). Key and value are valid only during the call. If fn returns
// Stop, the scan ends without an error; any other error is returned. A damaged value
// ends the scan with a *ValueError; the caller may continue after its key.
func (s *Store) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	return s.scan(prefix, from, func(item *badger.Item) error {
		return value(item, func(v []byte) error { return fn(item.Key(), v) })
	})
}

// ScanKeys is Scan without the values.
func (s *Store) ScanKeys(prefix, from []byte, fn func(key []byte) error) error {
	return s.scan(prefix, from, func(item *badger.Item) error { return fn(item.Key()) })
}

func (s *Store) scan(prefix, from []byte, fn func(*badger.Item) error) error {
	if from == nil {
		from = prefix
	}
	err := s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = prefix
		o.PrefetchValues = false // small values are stored with their keys; bodies are not scanned
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Seek(from); it.ValidForPrefix(prefix); it.Next() {
			if err := fn(it.Item()); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, store.Stop) {
		return nil
	}
	return err
}
