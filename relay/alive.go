package relay

import (
	"context"
	"errors"

	"github.com/stsrelay/stsrelay/internal/store"
)

// commits returns an error where the store commits nothing more before the process
// starts anew. It waits for the committer, and so does not return while that hangs; a
// full disk is no error: a start anew would not make room. Nor is a PostgreSQL that is
// away, which is not asked.
func (r *Relay) commits(ctx context.Context) error {
	var nothing store.Batch
	nothing.Deferrable()
	err := store.Commit(ctx, r.disk, &nothing)
	if errors.Is(err, store.ErrDiskFull) {
		return nil
	}
	if err != nil && ctx.Err() == nil {
		r.log.Error("the service manager's watchdog gets no sign of life: nothing can be committed", "error", err)
	}
	return err
}

// warn writes to the log that the service manager could not be told something, if so.
func (r *Relay) warn(err error) {
	if err != nil {
		r.log.Warn("the service manager could not be told", "error", err)
	}
}
