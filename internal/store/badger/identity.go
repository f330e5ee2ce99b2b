package badger

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/stsrelay/stsrelay/internal/store"
)

// keyState is where a store keeps its State.
var keyState = store.PrefixEngine

// State is what a store knows of itself. It stands in the store, written in
// each transaction, and in a file beside the store's folder, written after it:
// the store that is found must be the one that the file speaks of, and no older.
type State struct {
	ID      [8]byte // drawn when the store was made
	Commits uint64  // transactions since then
	// Messages is the number of envelopes, Sum the sum of numbers that are drawn
	// from their keys, Highest the highest key's number that there was.
	Messages, Sum, Highest uint64
}

const stateSize = 40

func (s *State) encode() []byte {
	b := append(make([]byte, 0, stateSize), s.ID[:]...)
	for _, n := range []uint64{s.Commits, s.Messages, s.Sum, s.Highest} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func (s *State) decode(b []byte) bool {
	if len(b) != stateSize {
		return false
	}
	copy(s.ID[:], b)
	for i, n := range []*uint64{&s.Commits, &s.Messages, &s.Sum, &s.Highest} {
		*n = binary.BigEndian.Uint64(b[8+8*i:])
	}
	return true
}

// isMessage reports whether key is an envelope's, and its number.
func isMessage(key []byte) (number uint64, ok bool) {
	if len(key) != len(store.PrefixMessage)+8 || string(key[:len(store.PrefixMessage)]) != string(store.PrefixMessage) {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[len(store.PrefixMessage):]), true
}

// add counts an envelope, or, with there false, discounts it.
func (s *State) add(number uint64, there bool) {
	x := number + 0x9e3779b97f4a7c15 // splitmix64: sums of neighbours must differ
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	if there {
		s.Messages++
		s.Sum += x
		s.Highest = max(s.Highest, number)
	} else {
		s.Messages--
		s.Sum -= x
	}
}

// identity is the file beside the store. Its two lines are written in turn, so
// that one of them is whole whatever happens.
type identity struct {
	mu      sync.Mutex
	file    *os.File
	line    int
	changed bool // since the last sync
}

const identityLine = 256

// IdentityFile is the name of the file beside the folder of a store that says
// what the store holds.
func IdentityFile(dir string) string { return filepath.Clean(dir) + ".identity" }

// readIdentity returns what the file says, nil where there is none. rescued
// reports whether everything that could be read was taken out of the store.
func readIdentity(dir string) (s *State, rescued bool, err error) {
	f, err := os.Open(IdentityFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2*identityLine))
	if err != nil {
		return nil, false, err
	}
	for i := range 2 {
		x, mark, ok := parseIdentity(data[min(i*identityLine, len(data)):])
		if ok && (s == nil || x.Commits >= s.Commits) {
			s, rescued = x, mark
		}
	}
	return s, rescued, nil
}

const identityFormat = "stsrelay-store 1 id=%x commits=%020d messages=%020d sum=%016x highest=%020d rescued=%t crc="

func (s *State) line(rescued bool) []byte {
	b := fmt.Appendf(make([]byte, 0, identityLine), identityFormat, s.ID, s.Commits, s.Messages, s.Sum, s.Highest, rescued)
	b = fmt.Appendf(b, "%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	for len(b) < identityLine-1 {
		b = append(b, ' ')
	}
	return append(b, '\n')
}

func parseIdentity(data []byte) (s *State, rescued, ok bool) {
	if len(data) < identityLine {
		return nil, false, false
	}
	s = new(State)
	var id []byte
	if _, err := fmt.Sscanf(string(data[:identityLine]), identityFormat, &id, &s.Commits, &s.Messages, &s.Sum, &s.Highest, &rescued); err != nil || len(id) != len(s.ID) {
		return nil, false, false
	}
	copy(s.ID[:], id)
	return s, rescued, string(s.line(rescued)) == string(data[:identityLine])
}

// openIdentity opens the file, or makes it, and writes s into both lines.
func openIdentity(dir string, s *State) (*identity, error) {
	f, err := os.OpenFile(IdentityFile(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the store's identity: %w", err)
	}
	i := &identity{file: f}
	err = errors.Join(i.write(s, false), i.write(s, false), i.sync(), syncFolder(filepath.Dir(IdentityFile(dir))))
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("the store's identity: %w", err)
	}
	return i, nil
}

// write is not synced: it must cost nothing after each transaction. What a
// crash of the machine takes of it makes the file say less than there is.
func (i *identity) write(s *State, rescued bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, err := i.file.WriteAt(s.line(rescued), int64(i.line)*identityLine)
	i.line ^= 1
	i.changed = true
	return err
}

func (i *identity) sync() error {
	i.mu.Lock()
	changed := i.changed
	i.changed = false
	i.mu.Unlock()
	if !changed {
		return nil
	}
	return i.file.Sync()
}

func (i *identity) close() error { return errors.Join(i.sync(), i.file.Close()) }

// MarkRescued notes that all that can be read was taken out of the store in dir:
// an empty folder in its place is not taken for a loss then.
func MarkRescued(dir string) error {
	s, _, err := readIdentity(dir)
	if err != nil || s == nil {
		return err
	}
	f, err := os.OpenFile(IdentityFile(dir), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	i := &identity{file: f}
	return errors.Join(i.write(s, true), i.write(s, true), i.close())
}

func newID() (id [8]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
