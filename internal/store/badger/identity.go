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

// keyState is the key of the State.
var keyState = store.PrefixEngine

// State identifies a store and counts its content. There are two copies: one in the
// store, written in each transaction, and one in a file beside the store's folder,
// written after the transaction. At a start the two are compared: the store must have
// the ID of the file, and must not be older than the file.
type State struct {
	ID      [8]byte // random, drawn when the store was created
	Commits uint64  // transactions since then
	// Messages is the number of envelopes. Sum is the sum of a hash of each
	// envelope's number. Highest is the highest number that an envelope has had.
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

// isMessage reports whether key is the key of an envelope, and returns its number.
func isMessage(key []byte) (number uint64, ok bool) {
	if len(key) != len(store.PrefixMessage)+8 || string(key[:len(store.PrefixMessage)]) != string(store.PrefixMessage) {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[len(store.PrefixMessage):]), true
}

// add counts an envelope that was written (there is true) or deleted (there is false).
func (s *State) add(number uint64, there bool) {
	x := number + 0x9e3779b97f4a7c15 // splitmix64: the hashes of neighbours must have different sums
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

// identity is the open identity file. It has two lines that are written in turn, so
// that a crash leaves at least one of them whole.
type identity struct {
	mu      sync.Mutex
	file    *os.File
	line    int
	changed bool // since the last sync
}

const identityLine = 256

// IdentityFile returns the name of the identity file of the store in dir. The file is
// beside dir and has a copy of the store's State.
func IdentityFile(dir string) string { return filepath.Clean(dir) + ".identity" }

// readIdentity returns the State in the identity file, nil if there is no file. rescued
// reports whether all readable messages were exported from the store (MarkRescued).
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

// openIdentity opens or creates the identity file, and writes s into both lines.
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

// write writes s into the older line. It does not sync, because it runs after each
// transaction. After a crash of the machine the file may have an older State than the
// store, which is not an error.
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

// MarkRescued records in the identity file that all readable messages were exported
// from the store in dir. After that, an empty folder in its place is accepted as a
// new store.
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
