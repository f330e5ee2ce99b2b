package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// Export writes all messages as one file that Import reads, here or on another machine,
// while the queue is in use. Messages that are accepted or leave the queue meanwhile may
// or may not be in it. Export does not keep a whole body in memory.
func (q *Queue) Export(ctx context.Context, w io.Writer) (Transfer, error) {
	var t Transfer
	x, err := newExportWriter(w)
	var c cursor
	for err == nil && !c.end {
		for _, e := range q.selectBatch(Filter{}, &c, 64) {
			if err = ctx.Err(); err == nil {
				err = q.exportOne(e, x, &t)
			}
			if err != nil {
				break
			}
		}
	}
	if err == nil {
		err = x.record(recordLast, encode(exportedLast{Messages: t.Messages, Octets: t.Octets, Unreadable: t.Unreadable}))
	}
	if err == nil {
		err = x.w.Flush()
	}
	if err != nil {
		return t, fmt.Errorf("export the queue: %w", err)
	}
	t.Complete = true
	return t, nil
}

// exportOne writes one message. A message that cannot be read is logged and left out; the
// error is one of writing.
func (q *Queue) exportOne(e *scheduler.Entry, x *exportWriter, t *Transfer) error {
	m, ok, err := q.message(e)
	if err == nil && !ok {
		return nil // it has left the queue
	}
	if err != nil {
		q.leaveOut(e, t, err)
		return nil
	}
	if err := x.record(recordMessage, encode(exported(&m))); err != nil {
		return err
	}
	b := newBody(q, e.Seq, m.Chunks)
	for b.next < b.chunks {
		if err := b.load(); err != nil {
			if !errors.Is(err, ErrBodyGone) || q.has(e.ID) {
				q.leaveOut(e, t, err)
			}
			return x.record(recordEnd, encode(exportedEnd{LeftOut: err.Error()}))
		}
		if err := x.record(recordBody, b.buf); err != nil {
			return err
		}
	}
	b.end()
	t.Messages++
	t.Octets += m.Size
	return x.end()
}

// leaveOut counts and logs a message that cannot be exported.
func (q *Queue) leaveOut(e *scheduler.Entry, t *Transfer, err error) {
	t.Unreadable++
	t.problem("message %s: %v", ID(e.ID), err)
	q.log.Error("a queued message cannot be read; the export goes on without it", "queue_id", ID(e.ID).String(), "error", err)
}

func exported(m *Message) *exportedMessage {
	x := &exportedMessage{Envelope: m.Envelope, States: make([]exportedState, len(m.Recipients)), HeldFor: m.HeldFor, HeldAt: m.held.Since}
	x.Envelope.Chunks = 0
	for n, group := range split(m.Recipients) {
		rec := m.records[n]
		for _, r := range group {
			x.States[r] = exportedState{State: m.States[r], LastAttempt: rec.LastAttempt}
			if m.States[r].State == Queued {
				x.States[r].NextAttempt = rec.NextAttempt
			}
		}
	}
	return x
}

// ErrImporting is returned if another import is running.
var ErrImporting = phrase.Errorf("another import is running")

// Import adds the messages of an export file to the queue, with their IDs, attempts and due
// times. Held messages stay held; if hold is not "", all are held, and hold is the reason.
// A message whose ID is in the queue is skipped, so that an interrupted import can be
// repeated. Each message is either durable or not there at all. The error is about this
// queue or about reading; faults of the file are in the Transfer.
func (q *Queue) Import(ctx context.Context, r io.Reader, hold string) (Transfer, error) {
	if !q.importing.CompareAndSwap(false, true) {
		return Transfer{}, ErrImporting
	}
	defer q.importing.Store(false)
	in := newImporter(ctx, q)
	in.hold = hold
	t, err := readExport(r, in)
	in.wait()
	t.Messages -= in.failed
	if err = errors.Join(err, in.err); err != nil {
		err = fmt.Errorf("import: %w; the file can be imported again to go on", err)
	}
	return t, err
}

// importsInFlight is how many messages of an import are being committed at a time.
const importsInFlight = 32

// importer adds the messages that readExport reads to the queue.
type importer struct {
	q       *Queue
	ctx     context.Context //nolint:containedctx // of the one call that it lives for
	hold    string
	run     string // of another relay's drain; "": this is an import
	slots   chan struct{}
	present *exportedMessage
	in      *Incoming

	mu      sync.Mutex
	pending map[ID]bool // submitted
	failed  int
	err     error    // the first of a commit
	durable []string // IDs of messages that are here, also from before; only of a drain
}

func newImporter(ctx context.Context, q *Queue) *importer {
	return &importer{q: q, ctx: ctx, slots: make(chan struct{}, importsInFlight), pending: make(map[ID]bool)}
}

// wait waits until all commits have ended.
func (i *importer) wait() {
	for range importsInFlight {
		i.slots <- struct{}{}
	}
}

func (i *importer) begin(m *exportedMessage) error {
	if err := i.ctx.Err(); err != nil {
		return err
	}
	i.mu.Lock()
	err, busy := i.err, i.pending[m.Envelope.ID]
	i.mu.Unlock()
	if err != nil {
		return err
	}
	present := i.q.has(m.Envelope.ID)
	if !present && !busy && i.run != "" {
		if present, err = i.q.tookBefore(i.run, m.Envelope.ID); err != nil {
			return err
		}
	}
	if present && i.run != "" {
		i.mu.Lock()
		i.durable = append(i.durable, m.Envelope.ID.String())
		i.mu.Unlock()
	}
	if busy || present {
		return errPresent
	}
	in, err := i.q.Begin()
	if err != nil {
		return err
	}
	in.entry.ID = m.Envelope.ID
	i.in, i.present = in, m
	return nil
}

func (i *importer) Write(p []byte) (int, error) { return i.in.Write(p) }

func (i *importer) abort() { i.in.Abort() }

func (i *importer) commit() error {
	m := i.present
	if i.hold != "" {
		m.HeldFor, m.HeldAt = i.hold, i.q.clock.wall().UTC()
	}
	if i.run != "" {
		i.in.batch.Set(takenKey(i.run, m.Envelope.ID), binary.BigEndian.AppendUint64(nil, uint64(i.q.clock.wall().Unix())))
	}
	i.slots <- struct{}{}
	i.mu.Lock()
	i.pending[m.Envelope.ID] = true
	i.mu.Unlock()
	err := i.in.submit(&m.Envelope, m, func(err error) {
		i.mu.Lock()
		delete(i.pending, m.Envelope.ID)
		if err != nil {
			i.failed++
			if i.err == nil {
				i.err = err
			}
		} else if i.run != "" {
			i.durable = append(i.durable, m.Envelope.ID.String())
		}
		i.mu.Unlock()
		<-i.slots
	})
	if err != nil {
		<-i.slots
		i.in.Abort()
	}
	return err
}

func (q *Queue) has(id ID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.byID[id] != nil
}

// addState adds the state of an imported message to the batch of its envelope.
func (m *exportedMessage) addState(seq uint64, b *store.Batch) {
	for n, rec := range m.records() {
		b.Set(groupKey(seq, n), encode(rec))
	}
	if m.HeldFor != "" {
		b.Set(holdKey(seq), encode(holdRecord{Reason: m.HeldFor, Since: m.HeldAt}))
	}
}

// admitImportedLocked is admitLocked for an imported message.
func (q *Queue) admitImportedLocked(e *scheduler.Entry, m *exportedMessage) {
	now, wall := q.clock.now(), q.clock.wall()
	q.acceptLocked(e, &m.Envelope, now)
	for n, rec := range m.records() {
		e.HasRecords = true
		q.permitted(e, q.scheduler.Restore(&e.Groups[n], rec.saved(now, wall)))
	}
	if m.HeldFor != "" {
		e.HasRecords = true
		q.permitted(e, q.scheduler.Hold(e, now))
	}
	q.permitted(e, q.scheduler.Start(e, now))
}
