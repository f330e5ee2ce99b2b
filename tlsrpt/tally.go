package tlsrpt

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// PolicyType says what a session was judged by (RFC 8460, 4.4).
type PolicyType string

// The policy types.
const (
	PolicySTS  PolicyType = "sts"
	PolicyTLSA PolicyType = "tlsa"
	PolicyNone PolicyType = "no-policy-found"
)

// Policy is the policy that a session was judged by.
type Policy struct {
	Type PolicyType `cbor:"1,keyasint"`
	// Strings are the policy's lines, or the TLSA records.
	Strings []string `cbor:"2,keyasint,omitempty"`
	// MXHosts are the patterns of the policy, or the host of the records.
	MXHosts []string `cbor:"3,keyasint,omitempty"`
}

// Failure is why a session did not satisfy its policy (RFC 8460, 4.4). What is
// not known is "".
type Failure struct {
	Type      ResultType `cbor:"1,keyasint"`
	SendingIP string     `cbor:"2,keyasint,omitempty"`
	MXHost    string     `cbor:"3,keyasint,omitempty"`
	MXHelo    string     `cbor:"4,keyasint,omitempty"`
	MXIP      string     `cbor:"5,keyasint,omitempty"`
	Code      string     `cbor:"6,keyasint,omitempty"`
}

// Result is what one session attempt counts for one policy.
type Result struct {
	// Domain is the policy domain, in A-labels.
	Domain string
	Policy Policy
	// Failure is nil for a success.
	Failure *Failure
	// At is the end of the attempt; its day (UTC) is what it counts for.
	At time.Time
}

// Keys. A count is a value of its own, so that counting costs the same however
// much there is:
//
//	t/DAY/DOMAIN/POLICY        Policy
//	t/DAY/DOMAIN/POLICY/s      number of successes
//	t/DAY/DOMAIN/POLICY/f HASH failureCount
type failureCount struct {
	Failure Failure `cbor:"1,keyasint"`
	Count   int64   `cbor:"2,keyasint"`
}

// DayFormat is how days are written.
const DayFormat = "2006-01-02"

func dayKey(day, domain string) []byte {
	k := append([]byte{}, store.PrefixReport...)
	k = append(k, day...)
	k = append(k, '/')
	if domain != "" {
		k = append(k, domain...)
		k = append(k, '/')
	}
	return k
}

// Count adds a result to b, to be committed with what led to it.
func Count(b *store.Batch, r Result) {
	policy := encode(r.Policy)
	sum := sha256.Sum256(policy)
	base := hex.AppendEncode(dayKey(r.At.UTC().Format(DayFormat), r.Domain), sum[:8])
	b.Update(base, func(old []byte) []byte {
		if old != nil {
			return old
		}
		return policy
	})
	if r.Failure == nil {
		b.Update(append(slices.Clone(base), "/s"...), func(old []byte) []byte {
			var n int64
			_ = cbor.Unmarshal(old, &n) // a count that cannot be read begins anew
			return encode(n + 1)
		})
		return
	}
	failure := *r.Failure
	sum = sha256.Sum256(encode(failure))
	b.Update(append(slices.Clone(base), "/f"+string(sum[:8])...), func(old []byte) []byte {
		f := failureCount{Failure: failure}
		_ = cbor.Unmarshal(old, &f)
		f.Count++
		return encode(f)
	})
}

func encode(v any) []byte {
	data, err := cbor.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("tlsrpt: encode %T: %v", v, err)) // only unsupported types can fail
	}
	return data
}

// Counts is what was counted of one policy of one domain on one day.
type Counts struct {
	Policy    Policy
	Successes int64
	Failures  []FailureCount // most first
}

// FailureCount is a failure and how often it was met.
type FailureCount struct {
	Failure
	Count int64
}

// Failed is the number of sessions that failed.
func (c *Counts) Failed() (n int64) {
	for _, f := range c.Failures {
		n += f.Count
	}
	return n
}

// DomainCounts is what was counted of one domain on one day.
type DomainCounts struct {
	Day      string
	Domain   string
	Policies []Counts
}

// Read calls yield for every domain of a day, or for one domain ("": all), in
// the order of their names, until it returns false.
func Read(s *store.Store, day, domain string, yield func(DomainCounts) bool) error {
	var cur *DomainCounts
	var last string // the key of the policy that is being read
	stopped := false
	emit := func() bool {
		if cur == nil {
			return true
		}
		for i := range cur.Policies {
			slices.SortStableFunc(cur.Policies[i].Failures, func(a, b FailureCount) int { return int(b.Count - a.Count) })
		}
		return yield(*cur)
	}
	err := s.Scan(dayKey(day, domain), nil, func(k, v []byte) error {
		parts := strings.SplitN(string(k[len(store.PrefixReport):]), "/", 4)
		if len(parts) < 3 {
			return nil
		}
		if cur == nil || cur.Domain != parts[1] {
			if !emit() {
				stopped = true
				return store.Stop
			}
			cur, last = &DomainCounts{Day: parts[0], Domain: parts[1]}, ""
		}
		if last != parts[2] {
			cur.Policies, last = append(cur.Policies, Counts{}), parts[2]
		}
		return cur.Policies[len(cur.Policies)-1].read(parts, v)
	})
	if err != nil {
		return fmt.Errorf("read the counts of %s: %w", day, err)
	}
	if !stopped {
		emit()
	}
	return nil
}

// read takes in one value.
func (c *Counts) read(parts []string, v []byte) error {
	switch {
	case len(parts) == 3:
		return cbor.Unmarshal(v, &c.Policy)
	case parts[3] == "s":
		return cbor.Unmarshal(v, &c.Successes)
	}
	var f failureCount
	if err := cbor.Unmarshal(v, &f); err != nil {
		return err
	}
	c.Failures = append(c.Failures, FailureCount{Failure: f.Failure, Count: f.Count})
	return nil
}
