package operator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/queue"
)

// Trashed is a message, or a part of one, that the operator has removed.
type Trashed struct {
	ID         string    `json:"id"`
	From       string    `json:"from"`
	To         []string  `json:"to"` // the recipients that were removed
	Size       int64     `json:"size"`
	ReceivedAt time.Time `json:"received_at"`
	RemovedAt  time.Time `json:"removed_at"`
	// ExpiresAt is when it is deleted for good, at the latest.
	ExpiresAt time.Time `json:"expires_at"`
	// Active reports whether a delivery was under way: it may have been delivered.
	Active bool `json:"active"`
}

// Restored is the answer to a restore.
type Restored struct {
	IDs       []string `json:"ids"` // that the messages have now
	Missing   []string `json:"missing,omitempty"`
	Ambiguous []string `json:"ambiguous,omitempty"`
}

// Trash calls yield with what the operator has removed, the oldest removal first,
// until it returns false.
func (o *Operator) Trash(ctx context.Context, yield func(*Trashed) bool) error {
	return o.o.Queue.Trash(ctx, func(t queue.Trashed) bool {
		out := Trashed{ID: t.ID.String(), From: t.From, Size: t.Size, ReceivedAt: t.ReceivedAt.UTC(), RemovedAt: t.RemovedAt.UTC(), ExpiresAt: t.ExpiresAt().UTC(), Active: t.Active}
		for _, to := range t.Recipients {
			out.To = append(out.To, to.Address)
		}
		return yield(&out)
	})
}

// Restore puts removed messages back into the queue: those with the IDs of a
// selection, or all.
func (o *Operator) Restore(ctx context.Context, actor Actor, sel Selection) (Restored, error) {
	out := Restored{IDs: []string{}}
	ids := sel.IDs
	if sel.All == (len(ids) > 0) {
		return out, failed(invalid, phrase.Errorf("say which messages: ids, or all"))
	}
	if sel.All {
		var err error
		if ids, err = o.trashedIDs(ctx); err != nil {
			return out, err
		}
	}
	return o.restore(ctx, actor, ids, time.Time{})
}

// restore is Restore for IDs, without what was removed before a time.
func (o *Operator) restore(ctx context.Context, actor Actor, ids []string, since time.Time) (Restored, error) {
	out := Restored{IDs: []string{}}
	var err error
	for _, id := range ids {
		var back []queue.ID
		back, err = o.o.Queue.Restore(ctx, id, since)
		for _, i := range back {
			out.IDs = append(out.IDs, i.String())
		}
		switch {
		case errors.Is(err, queue.ErrAmbiguous):
			out.Ambiguous = append(out.Ambiguous, id)
		case errors.Is(err, queue.ErrNotInTrash):
			out.Missing = append(out.Missing, id)
		case err != nil:
			return out, err
		}
	}
	o.log(ctx, actor, "messages restored by the operator", slog.Int("messages", len(out.IDs)))
	return out, nil
}

// Undone is the answer to an undo.
type Undone struct {
	// Kept is how many messages are not bounced after all.
	Kept int `json:"kept"`
	// IDs are those of the removed messages that are back.
	IDs []string `json:"ids"`
}

// Undo stops the bounces whose notices have not been sent, and restores what was
// removed within the last time.
func (o *Operator) Undo(ctx context.Context, actor Actor, within time.Duration) (Undone, error) {
	out := Undone{IDs: []string{}}
	if within <= 0 {
		return out, failed(invalid, phrase.Errorf("the time must be more than 0, such as 10m"))
	}
	out.Kept = o.o.Queue.UndoBounces()
	since := time.Now().Add(-within)
	var ids []string
	if err := o.o.Queue.Trash(ctx, func(t queue.Trashed) bool {
		if id := t.ID.String(); !t.RemovedAt.Before(since) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		return true
	}); err != nil {
		return out, err
	}
	if len(ids) > 0 {
		back, err := o.restore(ctx, actor, ids, since)
		out.IDs = back.IDs
		if err != nil {
			return out, err
		}
	}
	o.log(ctx, actor, "removals and bounces undone by the operator", slog.Int("kept", out.Kept), slog.Int("restored", len(out.IDs)))
	return out, nil
}

// trashedIDs returns the IDs in the trash, each once.
func (o *Operator) trashedIDs(ctx context.Context) (ids []string, err error) {
	seen := make(map[queue.ID]bool)
	err = o.o.Queue.Trash(ctx, func(t queue.Trashed) bool {
		if !seen[t.ID] {
			seen[t.ID] = true
			ids = append(ids, t.ID.String())
		}
		return true
	})
	return ids, err
}

// EmptyTrash deletes all that is in the trash for good.
func (o *Operator) EmptyTrash(ctx context.Context, actor Actor) (Affected, error) {
	n, err := o.o.Queue.EmptyTrash(ctx)
	if err != nil {
		return Affected{}, err
	}
	o.log(ctx, actor, "the trash was emptied by the operator", slog.Int("messages", n))
	return Affected{Affected: n}, nil
}
