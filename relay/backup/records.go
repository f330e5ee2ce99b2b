package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// The stream of a store's records is a CBOR sequence (RFC 8742) of maps. The last one has
// "end" and no key: a stream without it was cut off.
type record struct {
	Key   []byte `cbor:"k,omitempty"`
	Value []byte `cbor:"v,omitempty"`
	End   *end   `cbor:"end,omitempty"`
}

type end struct {
	Records int `cbor:"records"`
	// Unreadable are the keys whose values the store could not read.
	Unreadable [][]byte `cbor:"unreadable,omitempty"`
}

// Records is the result of writing or reading a stream of records.
type Records struct {
	Records int
	// Unreadable is the number of values that could not be read, and are not in the stream.
	Unreadable int
}

// Kept reports whether the record under a key belongs in a backup: it is no mail, and nothing
// that an engine or the queue knows of its own store.
func Kept(key []byte) bool {
	for _, p := range [][]byte{store.PrefixBody, store.PrefixMessage, store.PrefixQueue, store.PrefixTrash} {
		if bytes.HasPrefix(key, p) {
			return false
		}
	}
	return len(key) > 0 && !bytes.Equal(key, store.PrefixEngine)
}

// RecordWriter writes a stream of records.
type RecordWriter struct {
	enc *cbor.Encoder
	end end
}

// NewRecordWriter returns a writer to w; Close must follow.
func NewRecordWriter(w io.Writer) *RecordWriter { return &RecordWriter{enc: cbor.NewEncoder(w)} }

// Add writes a record if it is kept.
func (w *RecordWriter) Add(key, value []byte) error {
	if !Kept(key) {
		return nil
	}
	w.end.Records++
	return w.enc.Encode(record{Key: key, Value: value})
}

// Unreadable notes a key whose value cannot be read.
func (w *RecordWriter) Unreadable(key []byte) {
	if Kept(key) {
		w.end.Unreadable = append(w.end.Unreadable, bytes.Clone(key))
	}
}

// Close ends the stream.
func (w *RecordWriter) Close() (Records, error) {
	return Records{Records: w.end.Records, Unreadable: len(w.end.Unreadable)}, w.enc.Encode(record{End: &w.end})
}

// WriteRecords writes all records of an open store that are kept. Those with the same first
// octet are of one moment.
func WriteRecords(ctx context.Context, s store.Reader, to io.Writer) (Records, error) {
	w := NewRecordWriter(to)
	for first := range 256 {
		prefix := []byte{byte(first)}
		if !Kept(prefix) && !bytes.Equal(prefix, store.PrefixEngine) {
			continue // mail: there may be much of it
		}
		if err := scan(ctx, s, prefix, w); err != nil {
			return Records{}, fmt.Errorf("read the store: %w", err)
		}
	}
	return w.Close()
}

func scan(ctx context.Context, s store.Reader, prefix []byte, w *RecordWriter) error {
	var from []byte
	for {
		err := s.Scan(prefix, from, func(key, value []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return w.Add(key, value)
		})
		damaged, ok := errors.AsType[*store.ValueError](err)
		if !ok {
			return err
		}
		w.Unreadable(damaged.Key)
		from = append(bytes.Clone(damaged.Key), 0)
	}
}

// recordLimits bound what a stranger's stream may ask for.
var recordLimits = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxArrayElements: 1 << 20, MaxMapPairs: 16}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// ReadRecords calls fn for each record of a stream. The error wraps ErrTorn where the stream
// has no end, or is none.
func ReadRecords(r io.Reader, fn func(key, value []byte) error) (Records, error) {
	dec := recordLimits.NewDecoder(r)
	var out Records
	for {
		var rec record
		if err := dec.Decode(&rec); err != nil {
			return out, fmt.Errorf("%w: the records of the store: %w", ErrTorn, err)
		}
		if rec.End != nil {
			out.Unreadable = len(rec.End.Unreadable)
			if rec.End.Records != out.Records {
				return out, fmt.Errorf("%w: the store had %d records, and %d are there", ErrTorn, rec.End.Records, out.Records)
			}
			return out, nil
		}
		if !Kept(rec.Key) {
			return out, fmt.Errorf("%w: there is a record of the store under %q, which no backup has", ErrTorn, rec.Key)
		}
		out.Records++
		if err := fn(rec.Key, rec.Value); err != nil {
			return out, err
		}
	}
}
