package queue

import (
	"bytes"
	"errors"
	"log/slog"

	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// NewMessage is a message that the relay itself writes.
type NewMessage struct {
	Envelope Envelope // ID, Size, ReceivedAt and Chunks are set by the queue
	Body     []byte
	// Keep, if set, replaces the message: nothing is queued, and the changes that Keep
	// adds are part of the same commit.
	Keep func(*store.Batch)
	// Also, if set, adds changes of the package that wrote the message to the commit.
	Also func(*store.Batch)
}

// LogNotices logs each of the notices about a message that the queue has accepted.
func LogNotices(log *slog.Logger, about *Envelope, notices []NewMessage) {
	for i := range notices {
		switch {
		case notices[i].Keep != nil:
			log.Info("notice kept for a digest", "original_queue_id", about.ID.String(), "to", about.From)
			continue
		case notices[i].Envelope.ID == ID{}:
			continue // its message was removed meanwhile
		}
		log.Info("notice queued", "queue_id", notices[i].Envelope.ID.String(), "message_id", notices[i].Envelope.MessageID, "original_queue_id", about.ID.String(), "to", about.From)
	}
}

// Add queues messages of the relay itself. also (nil: nothing) adds changes to the same
// commit; it is called when the messages have their IDs. Add returns when all is durable.
func (q *Queue) Add(messages []NewMessage, also func(*store.Batch)) error {
	var b store.Batch
	done := make(chan error, 1)
	q.mu.Lock()
	generated := q.addGeneratedLocked(messages, nil, &b)
	if also != nil {
		also(&b)
	}
	q.submitGeneratedLocked(&b, generated, func(err error) { done <- err })
	q.mu.Unlock()
	return <-done
}

// generatedMessage is a message of the relay itself whose commit is under way.
type generatedMessage struct {
	entry *scheduler.Entry
	env   *Envelope
	about *Envelope // the message that it is a notice about, nil for none
}

// addGeneratedLocked adds messages to b. about is the message that they are notices about,
// nil for none.
func (q *Queue) addGeneratedLocked(messages []NewMessage, about *Envelope, b *store.Batch) []generatedMessage {
	var generated []generatedMessage
	for i := range messages {
		m := &messages[i]
		if m.Also != nil {
			m.Also(b)
		}
		if m.Keep != nil {
			m.Keep(b)
			continue
		}
		m.Envelope.MessageID = CleanMessageID(messageIDOf(m.Body))
		e := q.enterLocked()
		q.buildEnvelope(e, &m.Envelope, m.Body, 0, int64(len(m.Body)), b)
		generated = append(generated, generatedMessage{e, &m.Envelope, about})
	}
	return generated
}

// messageIDOf returns the Message-ID of a message, "" if it has none.
func messageIDOf(message []byte) string {
	for field := range mailheader.Fields(message) {
		switch {
		case len(bytes.TrimRight(field, "\r\n")) == 0:
			return ""
		case mailheader.Name(field) == "message-id":
			return mailheader.Value(field)
		}
	}
	return ""
}

// submitGeneratedLocked submits b, and schedules the messages that addGeneratedLocked has
// added to it once they are durable: what is claimed must be readable. done may be nil.
func (q *Queue) submitGeneratedLocked(b *store.Batch, generated []generatedMessage, done func(error)) {
	q.store.Submit(b, func(err error) {
		if !errors.Is(err, store.ErrClosed) { // then the lock is held
			q.mu.Lock()
			q.admitGeneratedLocked(generated, err)
			q.mu.Unlock()
		}
		if done != nil {
			done(err)
		}
	})
}

// admitGeneratedLocked schedules messages after their commit, or discards them if there
// was an error.
func (q *Queue) admitGeneratedLocked(generated []generatedMessage, err error) {
	for _, m := range generated {
		if err != nil {
			q.discardLocked(m.entry)
		} else {
			q.admitLocked(m.entry, m.env)
			if m.about != nil {
				q.noticed(m.about, m.env)
			}
		}
	}
	q.wake.raise()
}
