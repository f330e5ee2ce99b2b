package badger

import (
	"bytes"
	"fmt"
	"os"

	"github.com/stsrelay/stsrelay/internal/badgerfile"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Salvage reads the sound records of a store that is not open, without changing it. It
// also reads a damaged store that Open refuses. The records of a damaged store may
// include some that were deleted or replaced.
type Salvage struct {
	db     *badgerfile.Database
	unlock func()
	// Damage describes the damage; nil if the store is sound.
	Damage *DamageError
}

// OpenSalvage opens the store in dir for reading. It refuses a store that a process is
// using, and with a *store.FormatError one that a newer version than this, version, has
// written.
func OpenSalvage(dir, version string) (*Salvage, error) {
	unlock, err := lockShared(dir)
	if err != nil {
		return nil, openError(dir, err)
	}
	s := &Salvage{unlock: unlock}
	if err := mayOpen(dir, os.O_RDONLY); err != nil {
		s.Close()
		return nil, err
	}
	v, err := verify(dir)
	if err == nil {
		err = v.newer(dir, version)
	}
	if err == nil {
		s.Damage = v.damage(dir)
		var salvage *badgerfile.Salvage
		if s.Damage != nil {
			salvage = &badgerfile.Salvage{
				Sound: func(key []byte, meta byte, stored []byte) bool {
					_, ok := unseal(key, meta, stored)
					return ok && meta != 0
				},
				// An envelope names its bodies, and may still be there.
				Unnamed: func(key []byte) bool { return bytes.HasPrefix(key, store.PrefixBody) },
			}
		}
		s.db, err = badgerfile.Open(dir, salvage)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Expected returns the number of messages in the store when it was last written, -1 if
// it is not known.
func (s *Salvage) Expected() int {
	if s.Damage == nil {
		return -1
	}
	return s.Damage.Expected
}

// Close closes the files of the store.
func (s *Salvage) Close() {
	if s.db != nil {
		s.db.Close()
	}
	s.unlock()
}

// Walk calls fn for each key in order. fn may keep the record. Walk can be called only
// once.
func (s *Salvage) Walk(fn func(store.Record) error) error {
	return s.db.Walk(func(it *badgerfile.Item) error {
		item := *it
		return fn(store.Record{Key: item.Key, Read: func() ([]byte, error) { return s.read(&item) }})
	})
}

func (s *Salvage) read(item *badgerfile.Item) ([]byte, error) {
	v, err := s.db.Value(item)
	if err == nil {
		var ok bool
		if v, ok = unseal(item.Key, item.UserMeta, v); !ok {
			err = badgerfile.ErrForeign
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", &store.ValueError{Key: item.Key}, err)
	}
	return v, nil
}
