package queue

import (
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"
)

// shortestPrefix is how much of an ID must be given.
const shortestPrefix = 4

// Resolve finds the ID that s is, or is the beginning of; the error wraps
// ErrNotFound.
func (q *Queue) Resolve(s string) (ID, error) {
	s = strings.ToUpper(s)
	if id, err := ulid.ParseStrict(s); err == nil {
		return id, nil
	}
	if len(s) < shortestPrefix {
		return ID{}, fmt.Errorf("%q is too short for the beginning of an ID: %w", s, ErrNotFound)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var found ID
	n := 0
	for id := range q.byID {
		if strings.HasPrefix(id.String(), s) {
			found = id
			n++
		}
	}
	switch n {
	case 0:
		return ID{}, fmt.Errorf("%s: %w", s, ErrNotFound)
	case 1:
		return found, nil
	}
	return ID{}, fmt.Errorf("%d messages begin with %s; write more of it: %w", n, s, ErrNotFound)
}
