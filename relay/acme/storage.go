package acme

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/stsrelay/stsrelay/internal/store"
)

// storage keeps certmagic's values in the store, each at store.PrefixACME and its key: the
// time of the change in nanoseconds (8 octets, big endian), and the value. Its locks are of
// this process, which is the store's only writer.
type storage struct {
	store store.Store

	mu    sync.Mutex
	locks map[string]chan struct{}
}

func newStorage(s store.Store) *storage {
	return &storage{store: s, locks: make(map[string]chan struct{})}
}

func storeKey(key string) []byte {
	return append(append([]byte{}, store.PrefixACME...), strings.Trim(key, "/")...)
}

// Store implements certmagic.Storage.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	v := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(value)), uint64(time.Now().UnixNano())) //nolint:gosec // it is after 1970
	return store.Put(ctx, s.store, storeKey(key), append(v, value...))
}

func (s *storage) read(key string) (value []byte, modified time.Time, err error) {
	v, err := store.Get(s.store, storeKey(key))
	switch {
	case err != nil:
		return nil, time.Time{}, err
	case len(v) < 8:
		return nil, time.Time{}, fs.ErrNotExist
	}
	return v[8:], time.Unix(0, int64(binary.BigEndian.Uint64(v))), nil //nolint:gosec // written above
}

// Load implements certmagic.Storage.
func (s *storage) Load(_ context.Context, key string) ([]byte, error) {
	value, _, err := s.read(key)
	return value, err
}

// Delete implements certmagic.Storage.
func (s *storage) Delete(ctx context.Context, key string) error {
	var b store.Batch
	b.Delete(storeKey(key))
	below, err := s.below(key)
	if err != nil {
		return err
	}
	for _, k := range below {
		b.Delete(storeKey(k))
	}
	return store.Commit(ctx, s.store, &b)
}

// Exists implements certmagic.Storage.
func (s *storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// below are the keys in a folder, in order.
func (s *storage) below(folder string) (out []string, err error) {
	prefix := store.PrefixACME
	if folder = strings.Trim(folder, "/"); folder != "" {
		prefix = storeKey(folder + "/x") // the final slash would be cut off
		prefix = prefix[:len(prefix)-1]
	}
	err = s.store.ScanKeys(prefix, nil, func(k []byte) error {
		out = append(out, string(k[len(store.PrefixACME):]))
		return nil
	})
	return out, err
}

// List implements certmagic.Storage.
func (s *storage) List(_ context.Context, path string, recursive bool) ([]string, error) {
	keys, err := s.below(path)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fs.ErrNotExist
	}
	path = strings.Trim(path, "/")
	var out []string
	for _, k := range keys {
		rest := strings.TrimPrefix(strings.TrimPrefix(k, path), "/")
		for i := 0; i < len(rest); i++ {
			if rest[i] != '/' {
				continue
			}
			if folder := k[:len(k)-len(rest)+i]; !slices.Contains(out, folder) {
				out = append(out, folder)
			}
			if !recursive {
				break
			}
		}
		if recursive || !strings.Contains(rest, "/") {
			out = append(out, k)
		}
	}
	return out, nil
}

// Stat implements certmagic.Storage.
func (s *storage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	value, modified, err := s.read(key)
	if err == nil {
		return certmagic.KeyInfo{Key: key, Modified: modified, Size: int64(len(value)), IsTerminal: true}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return certmagic.KeyInfo{}, err
	}
	below, err := s.below(key)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	if len(below) == 0 {
		return certmagic.KeyInfo{}, fs.ErrNotExist
	}
	return certmagic.KeyInfo{Key: key}, nil
}

// Lock implements certmagic.Locker.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		s.mu.Lock()
		held, ok := s.locks[name]
		if !ok {
			s.locks[name] = make(chan struct{})
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, ok := s.locks[name]; ok {
		close(held)
		delete(s.locks, name)
	}
	return nil
}
