package store

import "github.com/stsrelay/stsrelay/internal/phrase"

// Row is a record of a store that somebody else may write, as of one moment.
type Row struct {
	Key, Value []byte
	// Rev is the number of the transaction that wrote it.
	Rev int64
}

// Range is the keys from From on, before To.
type Range struct{ From, To []byte }

// ErrChanged is wrapped by the error of a change that was not made because rows of another
// writer have changed since they were read.
var ErrChanged = phrase.Errorf("the rows of another store have changed")
