package operator

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// Messages calls yield with the selected messages, the oldest first, until it
// returns false or has had limit of them. A negative limit is none. IDs that are not in
// the queue are passed over. In a fleet, those of the other relays follow, queue by queue.
func (o *Operator) Messages(ctx context.Context, sel Selection, limit int, yield func(*Message) bool) error {
	f, err := sel.filter()
	if err != nil {
		return failed(invalid, err)
	}
	missing := o.resolve(&f, sel.IDs).Missing
	if limit == 0 {
		return nil
	}
	if sel.Why != "" && failure.Of(sel.Why).Reason == 0 {
		return failed(invalid, phrase.Errorf("why %q is no code of a reason; docs/reasons.md lists them", sel.Why))
	}
	n, ours := 0, o.sharedNow()
	waiting, pauses := o.underWay(), o.pausesNow()
	more := true
	show := func(relay string, m *queue.Message) bool {
		out := newMessage(m, ours)
		if sel.Why != "" && out.Reason.Code != sel.Why {
			return true
		}
		n++
		out.Relay = relay
		out.WaitsFor, out.Paused = waiting[out.ID], pauses.ofMessage(m)
		more = yield(&out) && n != limit
		return more
	}
	if len(sel.IDs) == 0 || len(f.IDs) > 0 {
		err = o.o.Queue.List(ctx, f, func(m queue.Message) bool { return show(o.relay(), &m) })
	}
	if err != nil || !more || o.o.Fleet == nil || len(sel.IDs) > 0 && len(missing) == 0 {
		return err
	}
	if len(sel.IDs) == 0 {
		return o.elsewhere(ctx, f, func(other *Other, m *queue.Message) bool { return show(other.relay(), m) })
	}
	found, err := o.named(ctx, missing)
	for _, id := range missing {
		if at := found[id]; err == nil && more && len(at) == 1 {
			show(at[0].in.relay(), &at[0].m)
		}
	}
	return err
}

// relay is the name of this relay in its fleet, "" where it is alone.
func (o *Operator) relay() string {
	if o.o.Fleet == nil {
		return ""
	}
	return o.o.Fleet.Name
}

// Message returns one message by its ID or a unique prefix of it.
func (o *Operator) Message(id string) (Message, error) {
	m, err := o.find(id)
	if o.o.Fleet != nil && !errors.Is(err, queue.ErrAmbiguous) {
		at, e := o.findElsewhere(id, err == nil)
		if e != nil {
			return Message{}, e
		}
		if at != nil {
			out := newMessage(&at.m, o.sharedNow())
			out.Relay = at.in.relay()
			return out, nil
		}
	}
	if err != nil {
		return Message{}, err
	}
	out := newMessage(&m, o.sharedNow())
	out.Relay = o.relay()
	out.WaitsFor, out.Paused = o.underWay()[out.ID], o.pausesNow().ofMessage(&m)
	return out, nil
}

func (o *Operator) find(id string) (queue.Message, error) {
	full, err := o.o.Queue.Resolve(id)
	if err != nil {
		return queue.Message{}, failed(notFound, err)
	}
	m, err := o.o.Queue.Show(full)
	if err != nil {
		return m, failed(notFound, err)
	}
	return m, nil
}

// Content returns a reader of a message's content, and its size in octets. The
// content was read to its end before, so that one that the disk has damaged is an
// error here, before the first octet is given away.
func (o *Operator) Content(id string) (io.Reader, int64, error) {
	m, err := o.find(id)
	if err != nil {
		return nil, 0, err
	}
	body, err := o.o.Queue.Open(m.ID)
	if err != nil {
		return nil, 0, failed(notFound, err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, 0, phrase.Errorf("message %s cannot be read from the disk of the relay: %w", m.ID, err)
	}
	if body, err = o.o.Queue.Open(m.ID); err != nil {
		return nil, 0, failed(notFound, err)
	}
	return body, m.Size, nil
}

// Summary returns what waits by domain, most messages first.
func (o *Operator) Summary() []DomainSummary {
	out := []DomainSummary{}
	list := o.o.Queue.Summary()
	ours := o.shared.of(list, o.o.ResolverSilent)
	pauses := o.pausesNow()
	for _, d := range list {
		out = append(out, DomainSummary{Domain: d.Domain, Messages: d.Messages, Recipients: d.Recipients,
			OldestAt: d.OldestAt.UTC().Truncate(time.Millisecond), FailingSince: timePointer(d.FailingSince), Ages: d.Ages, NextAttemptAt: timePointer(d.NextAttemptAt), LastError: d.Last.Text, Reason: newReason(d.Last, d.Domain, "", ours), Paused: pauses.of(d.Domain)})
	}
	return out
}
