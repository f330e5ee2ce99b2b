package queue

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// Keys. The store knows a message by its sequence number, which never comes from the
// clock:
//
//	b seq(8) n(4)     chunk n of the body
//	e seq(8)          Envelope; its commit is the acceptance
//	e seq(8) group(2) groupRecord, once an attempt did not end the group, its sender
//	                  was told of a delay, or it ended before the message
//	e seq(8) ffff     holdRecord, while the message is held
//	q low             the lowest live sequence number
//	q seq             the sequence numbers below are taken
//	q inflight        the recipient groups that are being delivered
//	q seen            seenRecord: when the queue ran last
//	q pauses          the pauses of delivery that outlive a restart
//	q drain           drainRecord, while all mail is handed to another relay
//	q taken …         what was taken from another relay's drain, see taken.go
var (
	keyLow      = append(append([]byte{}, store.PrefixQueue...), "low"...)
	keySeq      = append(append([]byte{}, store.PrefixQueue...), "seq"...)
	keySeen     = append(append([]byte{}, store.PrefixQueue...), "seen"...)
	keyInFlight = append(append([]byte{}, store.PrefixQueue...), "inflight"...)
)

const holdSuffix = 0xffff

func messageKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 11), store.PrefixMessage...), seq)
}

func groupKey(seq uint64, group int) []byte {
	return binary.BigEndian.AppendUint16(messageKey(seq), uint16(group))
}

func holdKey(seq uint64) []byte { return groupKey(seq, holdSuffix) }

func bodyKey(seq uint64, chunk int) []byte {
	k := binary.BigEndian.AppendUint64(append(make([]byte, 0, 13), store.PrefixBody...), seq)
	return binary.BigEndian.AppendUint32(k, uint32(chunk))
}

// parseMessageKey splits a key with store.PrefixMessage; group is -1 for the
// envelope itself.
func parseMessageKey(key []byte) (seq uint64, group int, ok bool) {
	key = key[len(store.PrefixMessage):]
	switch len(key) {
	case 8:
		return binary.BigEndian.Uint64(key), -1, true
	case 10:
		return binary.BigEndian.Uint64(key), int(binary.BigEndian.Uint16(key[8:])), true
	}
	return 0, 0, false
}

// groupRecord is the state of a recipient group. It is written after an attempt, when the
// sender was notified of a delay, and when the group was canceled.
type groupRecord struct {
	// NextAttempt and LastAttempt are wall-clock times. If the clock was set in between,
	// their difference counts.
	NextAttempt time.Time        `cbor:"1,keyasint"`
	LastAttempt time.Time        `cbor:"2,keyasint"`
	Attempts    int              `cbor:"3,keyasint"`
	States      []RecipientState `cbor:"4,keyasint"` // in the group's order
	Done        bool             `cbor:"5,keyasint,omitempty"`
}

// delayNotified reports whether the sender was notified of the delay for all recipients
// that are queued.
func (r *groupRecord) delayNotified() bool {
	return len(r.States) > 0 && !slices.ContainsFunc(r.States, func(s RecipientState) bool { return s.State == Queued && !s.Delayed })
}

// saved returns what the scheduler has to know of the record. If the clock was set back,
// the wait does not become longer than it was.
func (r *groupRecord) saved(now scheduler.Time, wall time.Time) scheduler.Saved {
	wait := min(r.NextAttempt.Sub(wall), r.NextAttempt.Sub(r.LastAttempt))
	saved := scheduler.Saved{Attempts: r.Attempts, Due: now.Add(wait), DelayNotified: r.delayNotified()}
	for _, s := range r.States {
		if s.State != Queued {
			continue
		}
		saved.Left++
		if s.LastError != "" {
			saved.Reason = s.Reason()
		}
	}
	if r.Done {
		saved.Left = 0
	}
	return saved
}

// holdRecord is written while a message is held.
type holdRecord struct {
	Reason string    `cbor:"1,keyasint"`
	Since  time.Time `cbor:"2,keyasint"`
	// Released reports whether the operator has released it: a message that has come back
	// (low-water guard) must not be held again at each start.
	Released bool `cbor:"3,keyasint,omitempty"`
	// Unreadable reports whether it is held because the store cannot read it.
	Unreadable bool `cbor:"4,keyasint,omitempty"`
}

// Times are encoded with nanoseconds and without the time zone.
var encoding, decoding = func() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{Time: cbor.TimeRFC3339NanoUTC}.EncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	dec, err := cbor.DecOptions{MaxArrayElements: 1 << 20, DefaultByteStringType: nil}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}()

func encode(v any) []byte {
	data, err := encoding.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("queue: encode %T: %v", v, err)) // only unsupported types can fail
	}
	return data
}

func decode(data []byte, v any) error { return decoding.Unmarshal(data, v) }
