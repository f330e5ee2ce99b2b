package alert

import (
	"context"
	"log/slog"
	"time"
)

const (
	// maxNotes bounds what waits for the webhook, posts the attempts for each.
	maxNotes = 8
	posts    = 6
	// firstPause is the time after the first failed attempt; it doubles each time.
	firstPause = 10 * time.Second
)

// note waits for the webhook.
type note struct {
	post func(ctx context.Context, body []byte) error
	body []byte
}

// hook posts notes one after the other, each several times at most. Nothing waits for it.
type hook struct {
	after func(time.Duration) <-chan time.Time
	log   *slog.Logger
	notes chan note
}

// tell hands over a note.
func (h *hook) tell(n note) {
	select {
	case h.notes <- n:
	default:
		h.log.Error("the webhook has not taken anything for long; the operator is not told of this by it")
	}
}

// run posts until ctx ends.
func (h *hook) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-h.notes:
			h.send(ctx, n)
		}
	}
}

// send posts a note until it is taken, or was tried often enough.
func (h *hook) send(ctx context.Context, n note) {
	pause := firstPause
	for try := 1; ; try++ {
		err := n.post(ctx, n.body)
		switch {
		case err == nil:
			h.log.Info("the operator is told of trouble by the webhook", "attempts", try)
			return
		case ctx.Err() != nil:
			return
		case try == posts:
			h.log.Error("the operator could not be told of trouble by the webhook; it is given up", "attempts", try, "error", err)
			return
		}
		h.log.Warn("the webhook does not take what the operator is told; it is tried again", "attempts", try, "again_in", pause, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-h.after(pause):
		}
		pause *= 2
	}
}
