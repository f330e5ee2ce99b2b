package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/internal/store"
)

// Rescued is what Rescue has found.
type Rescued struct {
	// Messages is the number of messages that were written, Octets the size of their bodies.
	Messages int
	Octets   int64
	// Lost has the messages that are not sound.
	Lost []LostMessage
}

// LostMessage is a message that cannot be rescued. Fields that are not known are empty.
type LostMessage struct {
	ID         string
	From       string
	Recipients []string
	Why        string
}

// RescueSource is what Rescue reads from; a *badger.Salvage is one.
type RescueSource interface {
	// Expected is how many messages there should be, -1 if that is not known.
	Expected() int
	Walk(fn func(store.Record) error) error
}

// Rescue writes every sound message of a store that is not open as an export, which Import
// reads, and names those that are not sound. The error is one of writing. Rescue does not
// keep a whole body in memory.
func Rescue(src RescueSource, w io.Writer) (Rescued, error) {
	x, err := newExportWriter(w)
	if err != nil {
		return Rescued{}, fmt.Errorf("rescue: %w", err)
	}
	r := &rescuer{src: src, x: x, bodies: make(map[uint64][]store.Record)}
	err = src.Walk(r.record)
	if err == nil {
		err = r.finish()
	}
	if err == nil {
		r.orphans()
		err = x.record(recordLast, encode(exportedLast{Messages: r.out.Messages, Octets: r.out.Octets}))
	}
	if err == nil {
		err = x.w.Flush()
	}
	if err != nil {
		return r.out, fmt.Errorf("rescue: %w", err)
	}
	return r.out, nil
}

// rescuer reads the records in the order of their keys: all bodies come before the trash
// and the first envelope, and the records of a message follow its envelope.
type rescuer struct {
	src    RescueSource
	x      *exportWriter
	out    Rescued
	bodies map[uint64][]store.Record // that no envelope was found for yet
	seq    uint64
	open   *Message // the message whose records are being read; nil: none, or lost
}

func (r *rescuer) record(rec store.Record) error {
	switch {
	case bytes.HasPrefix(rec.Key, store.PrefixBody) && len(rec.Key) == len(store.PrefixBody)+12:
		seq := binary.BigEndian.Uint64(rec.Key[len(store.PrefixBody):])
		r.bodies[seq] = append(r.bodies[seq], rec)
	case bytes.HasPrefix(rec.Key, store.PrefixTrash): // removed by the operator
		if seq, ok := trashSeq(rec.Key); ok {
			delete(r.bodies, seq)
		}
	case bytes.HasPrefix(rec.Key, store.PrefixMessage):
		seq, n, ok := parseMessageKey(rec.Key)
		if !ok {
			return nil
		}
		v, err := rec.Read()
		if n < 0 {
			return r.envelope(seq, v, err)
		}
		if r.open != nil && r.seq == seq && err == nil {
			r.state(n, v)
		}
	}
	return nil
}

// envelope begins a message.
func (r *rescuer) envelope(seq uint64, v []byte, err error) error {
	if e := r.finish(); e != nil {
		return e
	}
	r.seq, r.open = seq, &Message{records: make(map[int]groupRecord)}
	if err == nil {
		err = decode(v, &r.open.Envelope)
	}
	if err != nil {
		r.open = nil
		r.lost(r.guess(seq), fmt.Errorf("its envelope cannot be read: %w", err))
		delete(r.bodies, seq)
	}
	return nil
}

// state adds a record beside the envelope. A damaged one is ignored: its recipients are
// tried from the beginning.
func (r *rescuer) state(n int, v []byte) {
	if n == holdSuffix {
		if decode(v, &r.open.held) == nil && !r.open.held.Released {
			r.open.HeldFor = r.open.held.Reason
		}
		return
	}
	var rec groupRecord
	if decode(v, &rec) == nil {
		r.open.records[n] = rec
	}
}

// finish writes the message that was read.
func (r *rescuer) finish() error {
	m := r.open
	if m == nil {
		return nil
	}
	r.open = nil
	chunks := r.bodies[r.seq]
	delete(r.bodies, r.seq)
	m.States = make([]RecipientState, len(m.Recipients))
	left := false
	for n, group := range split(m.Recipients) {
		for i, to := range group {
			m.States[to].State = Queued
			if rec := m.records[n]; len(rec.States) == len(group) {
				m.States[to] = rec.States[i]
			}
			left = left || m.States[to].State == Queued
		}
	}
	if len(m.Recipients) > 0 && !left {
		return nil // it was at its end
	}
	if m.held.Unreadable { // it is whole here, or is not in the file
		m.HeldFor = ""
	}
	return r.write(m, chunks)
}

func (r *rescuer) write(m *Message, chunks []store.Record) error {
	if err := r.x.record(recordMessage, encode(exported(m))); err != nil {
		return err
	}
	var size int64
	var bad error
	if len(chunks) < m.Chunks {
		bad = fmt.Errorf("its body is not whole: %d of %d parts are missing or damaged", m.Chunks-len(chunks), m.Chunks)
	}
	for i := 0; i < m.Chunks && bad == nil; i++ {
		if n := binary.BigEndian.Uint32(chunks[i].Key[len(store.PrefixBody)+8:]); int(n) != i {
			bad = fmt.Errorf("part %d of its body is not there", i)
			break
		}
		v, err := chunks[i].Read()
		if err != nil {
			bad = fmt.Errorf("its body cannot be read: %w", err)
			break
		}
		if size += int64(len(v)); size > m.Size {
			break
		}
		if err := r.x.record(recordBody, v); err != nil {
			return err
		}
	}
	if bad == nil && size != m.Size {
		bad = fmt.Errorf("its body has %d octets, not %d", size, m.Size)
	}
	if bad != nil {
		lost := LostMessage{ID: m.ID.String(), From: m.From}
		for _, to := range m.Recipients {
			lost.Recipients = append(lost.Recipients, to.Address)
		}
		r.lost(lost, bad)
		return r.x.record(recordEnd, encode(exportedEnd{LeftOut: bad.Error()}))
	}
	r.out.Messages++
	r.out.Octets += size
	return r.x.end()
}

func (r *rescuer) lost(m LostMessage, why error) {
	m.Why = why.Error()
	r.out.Lost = append(r.out.Lost, m)
}

// orphans names the bodies without an envelope, where messages are missing.
func (r *rescuer) orphans() {
	if n := r.src.Expected(); n >= 0 && r.out.Messages+len(r.out.Lost) >= n {
		return
	}
	var seqs []uint64
	for seq := range r.bodies {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		r.lost(r.guess(seq), errors.New("its envelope is not there, only its body: it may have been delivered, or never accepted"))
	}
}

// guess returns what the header of a body tells about a message whose envelope is lost:
// the Received field of this relay has the ID, and the recipient if there was only one.
func (r *rescuer) guess(seq uint64) (m LostMessage) {
	chunks := r.bodies[seq]
	if len(chunks) == 0 {
		return m
	}
	v, err := chunks[0].Read()
	if err != nil {
		return m
	}
	head, _, _ := bytes.Cut(v, []byte("\r\n\r\n"))
	first := true
	for f := range mailheader.Fields(head) {
		value := mailheader.Value(f)
		switch mailheader.Name(f) {
		case "received":
			if first {
				m.ID, m.Recipients = traced(value)
			}
			first = false
		case "from":
			m.From = value
		case "to":
			if m.Recipients == nil {
				m.Recipients = []string{value}
			}
		}
	}
	return m
}

// traced returns what a Received field of this relay says about a message.
func traced(received string) (id string, recipients []string) {
	words := strings.Fields(received)
	for i := range len(words) - 1 {
		switch word := strings.Trim(words[i+1], "<>;"); words[i] {
		case "id":
			id = word
		case "for":
			recipients = []string{word}
		}
	}
	return id, recipients
}
