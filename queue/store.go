package queue

import (
	"context"

	"github.com/stsrelay/stsrelay/internal/store"
)

// commit submits b and waits until it is durable. When ctx ends first, b may or
// may not be committed.
func (q *Queue) commit(ctx context.Context, b *store.Batch) error {
	return store.Commit(ctx, q.store, b)
}
