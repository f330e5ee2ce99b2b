package badger

import (
	"errors"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/stsrelay/stsrelay/internal/store"
)

// migrateProgress is the time between two lines of the log about a migration.
const migrateProgress = 5 * time.Second

// migrate brings the store from the format that verify has found to store.Format, before
// anything else is written. It may be cut off at any moment: the format is written last, and
// the next start begins again.
func (s *Store) migrate(v *verdict) error {
	present := store.Written{Format: store.Format, By: s.version}
	if v.written == present {
		return nil
	}
	if v.written.Format < 1 && v.recorded != nil { // not a new store
		if err := s.sealAll(v); err != nil {
			return err
		}
		s.log.Info("the store was brought to the present format", "dir", s.dir, "from", v.written.Format, "to", store.Format)
	}
	err := s.db.Update(func(txn *badger.Txn) error { return txn.SetEntry(seal(store.KeyFormat, present.Encode())) })
	return errors.Join(err, s.failure.err())
}

// sealAll is the migration from format 0 to 1: every value gets the proof that it belongs to
// its key. Stores of the last versions before format 1 have that already, so that the pass
// reads their keys only.
func (s *Store) sealAll(v *verdict) error {
	s.log.Info("the store is brought to the present format", "dir", s.dir, "from", v.written.Format, "to", store.Format, "keys", v.keys)
	read := s.db.NewTransaction(false)
	defer read.Discard()
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	it := read.NewIterator(o)
	defer it.Close()
	b := sealing{s: s, txn: s.db.NewTransaction(true)}
	defer func() { b.txn.Discard() }()
	said := time.Now()
	done := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if done++; time.Since(said) > migrateProgress {
			said = time.Now()
			s.log.Info("the store is being brought to the present format", "keys_done", done, "keys", v.keys)
		}
		if item := it.Item(); item.UserMeta() == 0 {
			if err := b.add(item); err != nil {
				return err
			}
		}
	}
	return b.commit()
}

// sealing is a transaction of sealAll.
type sealing struct {
	s             *Store
	txn           *badger.Txn
	entries, size int
}

func (b *sealing) add(item *badger.Item) error {
	value, err := item.ValueCopy(nil)
	if err != nil {
		return err
	}
	if len(value) == 0 && item.ValueSize() > 0 {
		return nil // it is damaged, which verify has reported; its reader gets a ValueError as before
	}
	if b.entries >= maxEntries || b.size+len(value) > maxTreeBytes {
		if err := b.commit(); err != nil {
			return err
		}
	}
	b.entries++
	b.size += len(value) + len(item.Key())
	return b.txn.SetEntry(seal(item.KeyCopy(nil), value))
}

func (b *sealing) commit() error {
	err := errors.Join(b.txn.Commit(), b.s.failure.err())
	b.txn, b.entries, b.size = b.s.db.NewTransaction(true), 0, 0
	return err
}
