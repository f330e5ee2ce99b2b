package tlsrpt

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Counts are the counts of one policy of one domain on one day.
type Counts struct {
	Policy    Policy
	Successes int64
	Failures  []FailureCount // most first
	// Again is the number of sessions that another policy has counted already,
	// AgainFailed the number of those that failed for both policies.
	Again, AgainFailed int64
}

// FailureCount is a failure and the number of its sessions.
type FailureCount struct {
	Failure
	Count int64
	// First and Last are the times of the first and the last one, in seconds since
	// 1970; 0 where they are not known.
	First, Last int64
}

// Failed is the number of sessions that failed.
func (c *Counts) Failed() (n int64) {
	for _, f := range c.Failures {
		n += f.Count
	}
	return n
}

// readPolicies calls yield for every policy below prefix, in the order of days,
// domains and generations, until it returns false. A damaged value is
// left out: a report of the others is of use.
func readPolicies(s store.Store, prefix []byte, yield func(reportKey, *Counts) bool) error {
	r := reader{yield: yield}
	var from []byte
	for {
		err := s.Scan(prefix, from, r.add)
		damaged, ok := errors.AsType[*store.ValueError](err)
		if !ok {
			if err != nil {
				return fmt.Errorf("read the counts of TLS reports: %w", err)
			}
			break
		}
		from = append(damaged.Key, 0)
	}
	r.emit()
	return nil
}

// reader collects the records of one policy.
type reader struct {
	yield   func(reportKey, *Counts) bool
	key     reportKey
	policy  string // the part of the key that names the policy
	counts  *Counts
	failure string // the part of the key that names the failure read last
	stopped bool
}

func (r *reader) add(k, v []byte) error {
	// c, day, domain, generation, policy, and what there is of it
	parts := strings.SplitN(string(k[len(store.PrefixReport):]), "/", 6)
	if len(parts) < 5 {
		return nil
	}
	if name := strings.Join(parts[1:5], "/"); r.policy != name {
		if !r.emit() {
			return store.Stop
		}
		key, ok := parseReportKey([]byte(strings.Join(parts[1:4], "/")))
		if !ok {
			return nil
		}
		r.key, r.policy, r.counts, r.failure = key, name, &Counts{}, ""
	}
	r.read(parts[5:], v)
	return nil
}

// emit passes the counts that were read to yield, and reports whether more are wanted.
func (r *reader) emit() bool {
	if r.counts != nil && !r.stopped {
		r.counts.Failures = slices.DeleteFunc(r.counts.Failures, func(f FailureCount) bool { return f.Count == 0 }) // it could not be read
		slices.SortStableFunc(r.counts.Failures, func(a, b FailureCount) int { return cmp.Compare(b.Count, a.Count) })
		r.stopped = !r.yield(r.key, r.counts)
		r.counts = nil
	}
	return !r.stopped
}

// read adds one value to the counts; a value that cannot be decoded is left out.
func (r *reader) read(rest []string, v []byte) {
	c := r.counts
	switch {
	case len(rest) == 0:
		_ = cbor.Unmarshal(v, &c.Policy)
	case rest[0] == "n":
		var n policyCount
		_ = cbor.Unmarshal(v, &n)
		c.Successes, c.Again, c.AgainFailed = n.Successes, n.Again, n.AgainFailed
	case !strings.HasSuffix(rest[0], "/n"):
		var f Failure
		if cbor.Unmarshal(v, &f) == nil {
			r.failure = rest[0]
			c.Failures = append(c.Failures, FailureCount{Failure: f})
		}
	case strings.TrimSuffix(rest[0], "/n") == r.failure: // it follows what it counts
		var f failureCount
		_ = cbor.Unmarshal(v, &f)
		last := &c.Failures[len(c.Failures)-1]
		last.Count, last.First, last.Last = f.Count, f.First, f.Last
	}
}

// days are the days that have counts, in order.
func days(s store.Store) (out []string, err error) {
	prefix := dayKey("")
	err = s.ScanKeys(prefix, nil, func(k []byte) error {
		if day := string(k[len(prefix):]); isDay(day) {
			out = append(out, day)
		}
		return nil
	})
	return out, err
}

// closedDays are the days for which at least one report was started.
func closedDays(s store.Store) (map[string]bool, error) {
	closed := make(map[string]bool)
	all, err := days(s)
	for _, day := range all {
		if err == nil {
			err = s.ScanKeys(append(key("s", day), '/'), nil, func([]byte) error {
				closed[day] = true
				return store.Stop
			})
		}
	}
	return closed, err
}

// generations calls yield for every domain of a day with the open generation. counted
// reports whether that has counts.
func generations(s store.Store, day string, yield func(k reportKey, counted bool)) error {
	prefix := domainKey(day, "")
	return s.Scan(prefix, nil, func(k, v []byte) error {
		var d domainRecord
		if cbor.Unmarshal(v, &d) == nil {
			yield(reportKey{day, string(k[len(prefix):]), d.Generation}, d.Policies > 0)
		}
		return nil
	})
}
