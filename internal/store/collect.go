package store

import (
	"context"
	"time"
)

// collect frees value-log files whose bodies are gone. At idle it compacts the
// tree first, now and then: Badger knows what is garbage only after compaction.
func (s *Store) collect(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	var lastCommits, flattened int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if s.space.critical() != nil {
			continue // a rewrite needs space before it gives any
		}
		commits := s.commits.Load()
		if commits == lastCommits && commits != flattened {
			if err := s.db.Flatten(1); err != nil {
				s.log.Warn("compaction of the store failed", "error", err)
			}
			flattened = commits
		}
		lastCommits = commits
		for ctx.Err() == nil && s.db.RunValueLogGC(0.5) == nil { //nolint:revive // every success may leave more to do
		}
	}
}
