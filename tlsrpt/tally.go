package tlsrpt

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// PolicyType is the kind of a policy (RFC 8460, 4.4).
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

// Failure is why a session did not satisfy its policy (RFC 8460, 4.4). Unknown fields
// are "".
type Failure struct {
	Type      ResultType `cbor:"1,keyasint"`
	SendingIP string     `cbor:"2,keyasint,omitempty"`
	MXHost    string     `cbor:"3,keyasint,omitempty"`
	MXHelo    string     `cbor:"4,keyasint,omitempty"`
	MXIP      string     `cbor:"5,keyasint,omitempty"`
	Code      string     `cbor:"6,keyasint,omitempty"`
}

// Result is the result of one session attempt for one policy.
type Result struct {
	// Domain is the policy domain, in A-labels.
	Domain string
	Policy Policy
	// Failure is nil for a success.
	Failure *Failure
	// At is the end of the attempt. It counts for that day (UTC).
	At time.Time
	// Again reports whether the session was counted for another policy already, Failed
	// whether it failed for that one. In totals, a session under two policies is one.
	Again, Failed bool
}

// The bounds of the records of one day.
const (
	// maxDomains is the number of domains that are counted.
	maxDomains = 200_000
	// maxDetails is the number of kinds of failure of one policy that are counted
	// apart; others are counted by type only.
	maxDetails = 1000
	// maxPolicies is the number of policies of one domain that are counted apart;
	// others are counted by type only. An honest domain has one or two.
	maxPolicies = 100
	// maxText bounds the octets of a text of a host that are kept.
	maxText = 200
)

// Tally counts the results of sessions.
type Tally struct {
	log *slog.Logger
	// onFirstCount is called for the first count of a report, by the committer of the
	// store, before that count is durable.
	onFirstCount func(k reportKey)

	maxDomains, maxDetails int

	// closed holds the days for which at least one report was started; counts of those
	// days need a lookup of the open generation. Only the committer uses it.
	closed map[string]bool
	// written has the last values of some keys, so that counting need not read the
	// store, which would cost as much as writing. Only the committer uses it.
	written map[string]*value
}

// value is a record that was written in an epoch of the store.
type value struct {
	record any
	epoch  int
}

// maxWritten bounds Tally.written.
const maxWritten = 20_000

// NewTally returns a Tally that logs when a bound is reached; log may be nil.
func NewTally(log *slog.Logger) *Tally {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Tally{log: log, maxDomains: maxDomains, maxDetails: maxDetails, closed: make(map[string]bool), written: make(map[string]*value)}
}

// Count adds a result to b, so that it is committed together with the result of the
// attempt.
func (t *Tally) Count(b *store.Batch, r Result) {
	r.Domain = strings.ToLower(r.Domain)
	if r.Failure != nil {
		f := *r.Failure
		f.MXHelo, f.Code = clean(f.MXHelo), clean(f.Code)
		r.Failure = &f
	}
	r.Policy = r.Policy.cleaned()
	id := r.Policy.identity()
	// Eight records at most are written, for the first failure of a domain.
	b.Do(8, 2*len(id)+1024, func(txn store.Txn) error { return t.count(txn, &r, id) })
}

// clean makes valid UTF-8 of bounded length of the text of a host.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "")
}

func (p Policy) cleaned() Policy {
	for i, s := range p.Strings {
		if !utf8.ValidString(s) {
			p.Strings = append([]string(nil), p.Strings...)
			for ; i < len(p.Strings); i++ {
				p.Strings[i] = strings.ToValidUTF8(p.Strings[i], "\uFFFD")
			}
			break
		}
	}
	return p
}

// count runs in the committer. A policy that has counts costs one read and one write, as
// long as no report of the day was started.
func (t *Tally) count(txn store.Txn, r *Result, policyID []byte) error {
	day := DayOf(r.At)
	base := policyKey(day, r.Domain, 0, policyID)
	var n policyCount
	known := false
	var err error
	if !t.closed[day] {
		known, err = get(t, txn, countKey(base), &n)
	}
	if err == nil && !known {
		base, err = t.beginPolicy(txn, day, r, policyID, &n)
	}
	if err != nil || base == nil {
		return err
	}
	if r.Again {
		n.Again++
	}
	if r.Failure == nil {
		n.Successes++
		return set(t, txn, countKey(base), n)
	}
	if r.Failed {
		n.AgainFailed++
	}
	if r.Again {
		if err := set(t, txn, countKey(base), n); err != nil {
			return err
		}
	}
	at := r.At.Unix()
	return t.countFailure(txn, base, &n, r, *r.Failure, failureCount{Count: 1, First: at, Last: at})
}

// add adds counts of a policy to those of the open generation of its domain. It runs in
// the committer.
func (t *Tally) add(txn store.Txn, k reportKey, c *Counts) error {
	r := Result{Domain: k.Domain, Policy: c.Policy}
	var n policyCount
	base, err := t.beginPolicy(txn, k.Day, &r, r.Policy.identity(), &n)
	if err != nil || base == nil {
		return err
	}
	n.Successes, n.Again, n.AgainFailed = n.Successes+c.Successes, n.Again+c.Again, n.AgainFailed+c.AgainFailed
	if err := set(t, txn, countKey(base), n); err != nil {
		return err
	}
	r.At, err = ParseDay(k.Day)
	for i := range c.Failures {
		f := &c.Failures[i]
		if err == nil {
			err = t.countFailure(txn, base, &n, &r, f.Failure, failureCount{Count: f.Count, First: f.First, Last: f.Last})
		}
	}
	return err
}

// beginPolicy finds the key of the counts of a policy that is not in the first report of
// the day, or makes it, and sets n. The policy is not counted where base is nil.
func (t *Tally) beginPolicy(txn store.Txn, day string, r *Result, policyID []byte, n *policyCount) (base []byte, err error) {
	var d domainRecord
	known, err := get(t, txn, domainKey(day, r.Domain), &d)
	if err != nil {
		return nil, err
	}
	if !known {
		if full, err := t.newDomain(txn, day); full || err != nil {
			return nil, err
		}
	}
	base = policyKey(day, r.Domain, d.Generation, policyID)
	*n = policyCount{}
	known, err = get(t, txn, countKey(base), n)
	if known || err != nil {
		return base, err
	}
	if d.Policies >= maxPolicies && len(r.Policy.Strings) > 0 {
		r.Policy = Policy{Type: r.Policy.Type}
		return t.beginPolicy(txn, day, r, r.Policy.identity(), n)
	}
	if t.onFirstCount != nil && d.Policies == 0 {
		t.onFirstCount(reportKey{day, r.Domain, d.Generation})
	}
	if d.Policies++; d.Policies == maxPolicies+1 {
		t.log.Warn("a domain has had too many policies in one day; more are not told apart in the TLS report", "domain", r.Domain, "day", day, "policies", maxPolicies)
	}
	err = set(t, txn, domainKey(day, r.Domain), d)
	if err == nil {
		err = txn.Set(base, encode(r.Policy))
	}
	if err == nil {
		err = set(t, txn, countKey(base), *n)
	}
	return base, err
}

// newDomain counts one more domain of the day; full reports whether there are too many.
func (t *Tally) newDomain(txn store.Txn, day string) (full bool, err error) {
	var n int
	if _, err := get(t, txn, dayKey(day), &n); err != nil {
		return false, err
	}
	if n > t.maxDomains {
		return true, nil
	}
	if n == t.maxDomains {
		t.log.Warn("sessions to more domains are not counted for TLS reports on this day", "day", day, "domains", n)
		full = true
	}
	return full, set(t, txn, dayKey(day), n+1)
}

func (t *Tally) countFailure(txn store.Txn, base []byte, n *policyCount, r *Result, failure Failure, more failureCount) error {
	var f failureCount
	k := failureKey(base, &failure)
	found, err := get(t, txn, countKey(k), &f)
	if err != nil {
		return err
	}
	if !found && n.Details >= t.maxDetails {
		if n.Details == t.maxDetails {
			t.log.Warn("a policy has failed in too many ways in one day; more are only summed in the TLS report",
				"domain", r.Domain, "day", DayOf(r.At), "details", n.Details)
			n.Details++
			if err := set(t, txn, countKey(base), *n); err != nil {
				return err
			}
		}
		failure = Failure{Type: failure.Type}
		k = failureKey(base, &failure)
		if found, err = get(t, txn, countKey(k), &f); err != nil {
			return err
		}
	} else if !found {
		n.Details++
		if err := set(t, txn, countKey(base), *n); err != nil {
			return err
		}
	}
	if !found {
		if err := txn.Set(k, encode(failure)); err != nil {
			return err
		}
	}
	f.add(more)
	return set(t, txn, countKey(k), f)
}

// get reads a record; one that cannot be read counts as absent. All records of a key have
// one type.
func get[T any](t *Tally, txn store.Txn, key []byte, record *T) (found bool, err error) {
	if w := t.written[string(key)]; w != nil && w.epoch == txn.Epoch() {
		*record = w.record.(T)
		return true, nil
	}
	data, err := txn.Get(key)
	return data != nil && cbor.Unmarshal(data, record) == nil, err
}

func set[T any](t *Tally, txn store.Txn, key []byte, record T) error {
	if w := t.written[string(key)]; w != nil {
		w.record, w.epoch = record, txn.Epoch()
	} else {
		if len(t.written) == maxWritten {
			clear(t.written)
		}
		t.written[string(key)] = &value{record, txn.Epoch()}
	}
	return txn.Set(key, encode(record))
}

// closeGeneration closes a generation: later counts go into the next one. It runs in the
// committer. counted reports whether the generation has counts.
func (t *Tally) closeGeneration(txn store.Txn, k reportKey) (counted bool, err error) {
	var d domainRecord
	if _, err := get(t, txn, domainKey(k.Day, k.Domain), &d); err != nil {
		return false, err
	}
	if d.Generation != k.Generation {
		return true, nil // it is closed
	}
	if d.Policies == 0 {
		return false, nil // it was removed with its day
	}
	t.closed[k.Day] = true
	return true, set(t, txn, domainKey(k.Day, k.Domain), domainRecord{Generation: k.Generation + 1})
}

// forget clears the remembered values in the commit of b, which removes records.
func (t *Tally) forget(b *store.Batch) {
	b.Do(0, 0, func(store.Txn) error {
		clear(t.written)
		return nil
	})
}

func encode(v any) []byte {
	data, err := cbor.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("tlsrpt: encode %T: %v", v, err)) // only unsupported types can fail
	}
	return data
}

func hash(data []byte) []byte {
	sum := sha256.Sum256(data)
	return hex.AppendEncode(nil, sum[:8])
}
