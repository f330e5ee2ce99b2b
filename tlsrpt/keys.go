package tlsrpt

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
)

// Keys. A count is a value of its own, without what it counts, so that counting
// costs the same however much there is. A generation is the counts of one report: counts
// that come after the report of a day was started belong to the next generation.
//
//	t/n/DAY                            number of domains
//	t/d/DAY/DOMAIN                     domainRecord
//	t/c/DAY/DOMAIN/GENERATION/POLICY   Policy
//	t/c/DAY/DOMAIN/GENERATION/POLICY/n policyCount
//	t/c/DAY/DOMAIN/GENERATION/POLICY/f HASH   Failure
//	t/c/DAY/DOMAIN/GENERATION/POLICY/f HASH/n failureCount
//	t/s/DAY/DOMAIN/GENERATION          submission, once the counts are closed
//	t/m/QUEUE-ID                       the report that a queued mail carries
//	t/seed                             the secret that report-ids and times are derived from

// DayFormat is the form of a day.
const DayFormat = "2006-01-02"

// domainRecord is the state of a domain on a day.
type domainRecord struct {
	// Generation is the open one; those below are closed.
	Generation int `cbor:"1,keyasint,omitempty"`
	// Policies is the number of policies in it; 0: it has no counts yet.
	Policies int `cbor:"2,keyasint,omitempty"`
}

type policyCount struct {
	Successes int64 `cbor:"1,keyasint,omitempty"`
	// Details is the number of failureCounts.
	Details int `cbor:"2,keyasint,omitempty"`
	// Again and AgainFailed are those of Counts.
	Again       int64 `cbor:"3,keyasint,omitempty"`
	AgainFailed int64 `cbor:"4,keyasint,omitempty"`
}

type failureCount struct {
	Count int64 `cbor:"1,keyasint"`
	// First and Last are those of FailureCount.
	First int64 `cbor:"2,keyasint,omitempty"`
	Last  int64 `cbor:"3,keyasint,omitempty"`
}

// add adds another count of the same failure.
func (f *failureCount) add(more failureCount) {
	f.Count += more.Count
	if f.First == 0 || more.First != 0 && more.First < f.First {
		f.First = more.First
	}
	f.Last = max(f.Last, more.Last)
}

func key(parts ...string) []byte {
	n := len(store.PrefixReport)
	for _, p := range parts {
		n += len(p) + 1
	}
	k := append(make([]byte, 0, n+24), store.PrefixReport...)
	for i, p := range parts {
		if i > 0 {
			k = append(k, '/')
		}
		k = append(k, p...)
	}
	return k
}

func dayKey(day string) []byte            { return key("n", day) }
func domainKey(day, domain string) []byte { return key("d", day, domain) }
func seedKey() []byte                     { return key("seed") }
func mailKey(queueID string) []byte       { return key("m", queueID) }

func generationName(g int) string { return fmt.Sprintf("%04d", g) }

func submissionKey(r reportKey) []byte {
	return key("s", r.Day, r.Domain, generationName(r.Generation))
}

// countsPrefix is that of the counts of a day, of a domain, or of a generation.
func countsPrefix(parts ...string) []byte {
	return append(key(append([]string{"c"}, parts...)...), '/')
}

// identity is different for any two policies. To encode them would cost more than all
// other work of a count.
func (p *Policy) identity() []byte {
	id := appendTexts(make([]byte, 0, 256), string(p.Type))
	id = appendTexts(binary.AppendUvarint(id, uint64(len(p.Strings))), p.Strings...)
	return appendTexts(id, p.MXHosts...)
}

func (f *Failure) identity() []byte {
	return appendTexts(make([]byte, 0, 256), string(f.Type), f.SendingIP, f.MXHost, f.MXHelo, f.MXIP, f.Code)
}

// appendTexts appends texts with their lengths, so that different texts have different
// results.
func appendTexts(b []byte, texts ...string) []byte {
	for _, s := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func policyKey(day, domain string, generation int, identity []byte) []byte {
	g := "0000"
	if generation > 0 {
		g = generationName(generation)
	}
	return append(append(key("c", day, domain, g), '/'), hash(identity)...)
}

func countKey(base []byte) []byte { return append(base[:len(base):len(base)], "/n"...) }

func failureKey(base []byte, f *Failure) []byte {
	return append(append(base[:len(base):len(base)], "/f"...), hash(f.identity())...)
}

// reportKey names one report.
type reportKey struct {
	Day        string `cbor:"1,keyasint"`
	Domain     string `cbor:"2,keyasint"`
	Generation int    `cbor:"3,keyasint,omitempty"`
}

// parseReportKey reads the end of a key, "DAY/DOMAIN" or "DAY/DOMAIN/GENERATION".
func parseReportKey(k []byte) (r reportKey, ok bool) {
	parts := strings.Split(string(k), "/")
	if len(parts) == 3 {
		if _, err := fmt.Sscanf(parts[2], "%d", &r.Generation); err != nil {
			return r, false
		}
		parts = parts[:2]
	}
	if len(parts) != 2 {
		return r, false
	}
	r.Day, r.Domain = parts[0], parts[1]
	return r, isDay(r.Day)
}

func isDay(s string) bool {
	_, err := time.Parse(DayFormat, s)
	return err == nil
}

// ParseDay reads a day; the error has an example.
func ParseDay(s string) (time.Time, error) {
	t, err := time.ParseInLocation(DayFormat, s, time.UTC)
	if err != nil {
		return t, phrase.Errorf("%q is not a date such as 2026-11-23", s)
	}
	return t, nil
}

// DayOf is the day (UTC) of a time.
func DayOf(t time.Time) string { return t.UTC().Format(DayFormat) }

// load reads one record outside of a commit.
func load(s store.Store, key []byte, v any) (found bool, err error) {
	err = s.View(key, func(data []byte) error {
		found = true
		return cbor.Unmarshal(data, v)
	})
	return found, err
}
