package dnsclient

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/miekg/dns"
)

// Bounds of the records that are kept of an answer: only those that mail uses. The owner
// of a zone chooses how many there are.
const (
	// maxRecords is the number of records that an answer may have. An answer with more
	// is not read at all.
	maxRecords = 256
	// maxMX is the number of MX records that are kept, the best ones: more than are tried in one
	// attempt to deliver, so that later ones can go on with the others.
	maxMX = 100
	// maxAddrs is the number of addresses of a family that are kept, and of names of
	// an address.
	maxAddrs = 16
	// maxOthers is the number of TXT records without a version that are kept, and
	// maxOtherTXT the number of octets that one may have.
	maxOthers   = 4
	maxOtherTXT = 2048
)

// answer is the answer to a question: records of its type, or an error.
type answer struct {
	records records
	secure  bool
	ttl     time.Duration // 0: not to be kept
	alias   string        // the end of the alias chain, "" without one
	err     *Error
	// took is the time that the servers took.
	took time.Duration
	// said is what observers are told of it; nil: nobody was told yet.
	said atomic.Pointer[Observation]
}

// observation returns what observers are told of the answer to q. It is made once.
func (a *answer) observation(q question) *Observation {
	o := a.said.Load()
	if o == nil {
		o = &Observation{q, a}
		a.said.Store(o)
	}
	return o
}

// records are the records of an answer, of one type.
type records struct {
	n        int // how many there were
	txt      []string
	otherTXT int // how many of txt have no version
	mx       []MX
	addrs    []netip.Addr
	tlsa     []TLSARecord
	names    []string // PTR and CNAME
	caa      []CAA
}

func (a *answer) result() (*answer, error) {
	if a.err != nil {
		return nil, a.err
	}
	return a, nil
}

// add adds a record.
func (r *records) add(rr dns.RR) {
	r.n++
	switch rr := rr.(type) {
	case *dns.TXT:
		r.addTXT(rr.Hdr.Name, unescape(strings.Join(rr.Txt, "")))
	case *dns.MX:
		r.mx = append(r.mx, MX{Host: canonical(rr.Mx), Preference: rr.Preference})
	case *dns.A:
		r.addAddr(rr.A.To4())
	case *dns.AAAA:
		r.addAddr(rr.AAAA.To16())
	case *dns.TLSA:
		if data, err := hex.DecodeString(rr.Certificate); err == nil {
			r.tlsa = append(r.tlsa, TLSARecord{Usage: rr.Usage, Selector: rr.Selector, MatchingType: rr.MatchingType, Data: data})
		}
	case *dns.CAA:
		if len(r.caa) < maxCAA && len(rr.Value) <= maxOtherTXT {
			r.caa = append(r.caa, CAA{Tag: strings.ToLower(rr.Tag), Value: unescape(rr.Value)})
		}
	case *dns.PTR:
		r.addName(rr.Ptr)
	case *dns.CNAME:
		r.addName(rr.Target)
	}
}

func (r *records) addAddr(ip []byte) {
	if a, ok := netip.AddrFromSlice(ip); ok && len(r.addrs) < maxAddrs {
		r.addrs = append(r.addrs, a)
	}
}

func (r *records) addName(name string) {
	if len(r.names) < maxAddrs {
		r.names = append(r.names, canonical(name))
	}
}

// addTXT keeps a TXT record that mail may use: those of MTA-STS, TLS-RPT, SPF and
// DMARC begin with their version. Those of DKIM keys need not; and at a name that is
// made for a record, one without says what its owner meant to publish.
func (r *records) addTXT(name, text string) {
	versioned := len(text) >= 2 && strings.EqualFold(text[:2], "v=")
	if !versioned {
		made := strings.HasPrefix(name, "_") || strings.Contains(strings.ToLower(name), "._domainkey.")
		if !made || len(text) > maxOtherTXT || r.otherTXT == maxOthers {
			return
		}
		r.otherTXT++
	}
	r.txt = append(r.txt, text)
}

// finish brings the records into the form that is kept.
func (r *records) finish() {
	slices.SortFunc(r.mx, func(a, b MX) int {
		if a.Preference != b.Preference {
			return int(a.Preference) - int(b.Preference)
		}
		return strings.Compare(a.Host, b.Host)
	})
	r.mx = slices.Clip(slices.Clone(r.mx[:min(len(r.mx), maxMX)]))
}

// size estimates the octets of the answer in memory.
func (a *answer) size() int {
	const perString, perSlice = int(unsafe.Sizeof("")), 16 // 16: what the allocator rounds up
	n := int(unsafe.Sizeof(*a)) + len(a.alias) + perSlice
	for _, list := range [][]string{a.records.txt, a.records.names} {
		for _, s := range list {
			n += perString + len(s) + perSlice
		}
	}
	for _, m := range a.records.mx {
		n += int(unsafe.Sizeof(m)) + len(m.Host) + perSlice
	}
	for _, t := range a.records.tlsa {
		n += int(unsafe.Sizeof(t)) + len(t.Data) + perSlice
	}
	for _, c := range a.records.caa {
		n += int(unsafe.Sizeof(c)) + len(c.Tag) + len(c.Value) + perSlice
	}
	n += len(a.records.addrs) * int(unsafe.Sizeof(netip.Addr{}))
	if a.err != nil {
		n += int(unsafe.Sizeof(*a.err)) + len(a.err.Name) + len(a.err.EDE) + len(a.err.Server) + perSlice
	}
	return n
}

// unescape turns the presentation form of a TXT string into its bytes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+s[i+3]-'0')
			i += 3
			continue
		}
		i++
		b = append(b, s[i])
	}
	return string(b)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
