package queue

import (
	"fmt"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
)

// The largest message that the configuration may allow (limits.recipients and
// limits.message_size: 5,000 domains, 1 GiB) can be ended in one commit.
func TestTheLargestMessageCanBeEnded(t *testing.T) {
	t.Parallel()
	removeAfterAttempts(t, 5000, 1<<30/chunkSize)
}

// removeAfterAttempts removes a message of so many groups that have all been
// tried, and of so many chunks.
func removeAfterAttempts(t *testing.T, groups, chunks int) {
	t.Helper()
	b := newBench(t, Options{Paused: true})
	recipients := make([]Recipient, groups)
	for i := range recipients {
		recipients[i] = Recipient{Address: fmt.Sprintf("a@d%d.test", i), Domain: fmt.Sprintf("d%d.test", i)}
	}
	in, err := b.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(t.Context(), Envelope{From: "a@x.test", Recipients: recipients}); err != nil {
		t.Fatal(err)
	}
	b.Queue.mu.Lock()
	e := b.byID[in.ID()]
	e.HasRecords = true
	for i := range e.Groups {
		e.Groups[i].Attempts = 1
	}
	b.Queue.mu.Unlock()
	var end store.Batch
	deleteRecords(e, chunks, &end)
	if err := store.Commit(t.Context(), b.st, &end); err != nil {
		t.Errorf("%d groups, %d chunks: %v", groups, chunks, err)
	}
}
