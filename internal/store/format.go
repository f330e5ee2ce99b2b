package store

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Format is the version of the keys and values that this program writes. It is raised when
// a program of before would misread what a newer one has written; a key that an older program
// ignores does not raise it. docs/store.md lists the formats.
const Format = 1

// KeyFormat is the key of Written. Its name is the same in every format and engine.
var KeyFormat = []byte("q/format")

// Written says in which format a store is, and which version of the program was the last to
// open it. A store without it is of format 0.
type Written struct {
	Format int    `cbor:"format"`
	By     string `cbor:"written_by"`
}

// Encode returns the value of KeyFormat.
func (w Written) Encode() []byte {
	b, err := cbor.Marshal(w)
	if err != nil {
		panic("store: the format cannot be encoded: " + err.Error()) // it is a number and a text
	}
	return b
}

// ReadWritten reads the value of KeyFormat.
func ReadWritten(value []byte) (w Written, err error) {
	if err := cbor.Unmarshal(value, &w); err != nil {
		return w, fmt.Errorf("the format of the store cannot be read: %w", err)
	}
	if w.Format < 1 {
		return w, fmt.Errorf("the format of the store cannot be read: it says %d", w.Format)
	}
	return w, nil
}

// FormatError is the error of a store that a newer version of the program has written. The
// store was not changed.
type FormatError struct {
	Place   string // of the store, as people know it
	Written Written
	Version string // of this program
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("the store in %s was written by stsrelay %s (format %d); this is %s (up to format %d): start the newer one, or export there and import here",
		e.Place, e.Written.By, e.Written.Format, e.Version, Format)
}
