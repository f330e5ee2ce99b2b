package received

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
	"github.com/stsrelay/stsrelay/tlsrpt/inbound"
)

// Via is the way by which a report came.
type Via string

// The ways.
const (
	ByMail   Via = "mail"
	ByImport Via = "import"
	ByHTTPS  Via = "https"
)

// Record is a report that was taken in, without its details.
type Record struct {
	// ID names the report here: 16 hexadecimal digits made from day, domain, organization and
	// report-id. Some senders give every day's report the same report-id.
	ID           string    `cbor:"1,keyasint" json:"id"`
	Day          string    `cbor:"2,keyasint" json:"day"` // that it is about, in UTC
	Domain       string    `cbor:"3,keyasint" json:"domain"`
	Organization string    `cbor:"4,keyasint" json:"organization"`
	ReportID     string    `cbor:"5,keyasint" json:"report_id"`
	Contact      string    `cbor:"6,keyasint" json:"contact,omitempty"`
	ReceivedAt   time.Time `cbor:"7,keyasint" json:"received_at"`
	Via          Via       `cbor:"8,keyasint" json:"via"`
	// From is the From field of the mail, "" for files.
	From string `cbor:"9,keyasint" json:"from,omitempty"`
	// SignedBy is the domain whose DKIM signature of the mail holds; "" where there is
	// none that does.
	SignedBy   string `cbor:"10,keyasint" json:"signed_by,omitempty"`
	Successful int64  `cbor:"11,keyasint" json:"successful"` // sessions
	Failed     int64  `cbor:"12,keyasint" json:"failed"`
	// Policies are the policies that the sender has seen, at most maxSeen.
	Policies []SeenPolicy `cbor:"13,keyasint" json:"policies,omitempty"`
	// Oddities are deviations from RFC 8460.
	Oddities []string `cbor:"14,keyasint" json:"oddities,omitempty"`
}

// Proof says how far the sender of the report is proved.
func (r *Record) Proof() string {
	if r.SignedBy == "" {
		return "not verifiable"
	}
	return "signed by " + r.SignedBy
}

// maxSeen bounds the policies that a record names.
const maxSeen = 20

// SeenPolicy is a policy as a sender has seen it.
type SeenPolicy struct {
	Domain string `cbor:"1,keyasint" json:"domain"`
	// Type is "sts", "tlsa" or "no-policy-found".
	Type string `cbor:"2,keyasint" json:"type"`
	// Mode and ID are of an MTA-STS policy. ID is what this relay's publisher gives a
	// policy with that content.
	Mode string `cbor:"3,keyasint" json:"mode,omitempty"`
	ID   string `cbor:"4,keyasint" json:"id,omitempty"`
}

// Mail is a mail to the drop that has no report.
type Mail struct {
	ID         string    `cbor:"1,keyasint" json:"id"`
	ReceivedAt time.Time `cbor:"2,keyasint" json:"received_at"`
	From       string    `cbor:"3,keyasint" json:"from"`
	Subject    string    `cbor:"4,keyasint" json:"subject"`
	MessageID  string    `cbor:"5,keyasint" json:"message_id"`
	SignedBy   string    `cbor:"6,keyasint" json:"signed_by,omitempty"`
	// Why is what kept it from being read as a report.
	Why string `cbor:"7,keyasint" json:"why"`
	// Whole reports whether all of it was kept: its content is, up to 1 MiB compressed.
	Whole bool `cbor:"8,keyasint" json:"whole"`
}

// Intake counts what came in on one day.
type Intake struct {
	Day        string `cbor:"-" json:"day"`
	Reports    int    `cbor:"1,keyasint" json:"reports"`
	Duplicates int    `cbor:"2,keyasint" json:"duplicates"`
	// Mails counts mails without a report, Damaged reports that could not be read.
	Mails   int `cbor:"3,keyasint" json:"mails"`
	Damaged int `cbor:"4,keyasint" json:"damaged"`
	// Foreign counts reports about domains that are not ours, or days that are too old.
	Foreign int `cbor:"5,keyasint" json:"foreign"`
	// Dropped counts what came beyond the bounds of a day, and was not kept.
	Dropped int `cbor:"6,keyasint" json:"dropped"`
}

// Sum counts sessions of one day: those that went well where Type is "", else those that
// failed in one way at one host.
type Sum struct {
	Day          string `cbor:"-" json:"day"`
	Domain       string `cbor:"1,keyasint" json:"domain"`
	Organization string `cbor:"2,keyasint" json:"organization"`
	// Policy is "sts", "tlsa" or "no-policy-found".
	Policy string `cbor:"3,keyasint" json:"policy"`
	// Type is the result type (RFC 8460, 4.3), Unexplained where the sender gives none.
	Type string `cbor:"4,keyasint" json:"type,omitempty"`
	// MX is the host, "" where it is not named.
	MX string `cbor:"5,keyasint" json:"mx,omitempty"`
	// Reason is the failure-reason-code that was seen last.
	Reason   string `cbor:"6,keyasint" json:"reason,omitempty"`
	Sessions int64  `cbor:"7,keyasint" json:"sessions"`
}

// Unexplained is the type of failures that a summary counts and no detail explains.
const Unexplained = "unexplained"

// key returns the key of a sum.
func (s *Sum) key() []byte {
	return keyOf(kindSum, s.Day, hash(s.Domain, s.Organization, s.Policy, s.Type, s.MX))
}

// hash names texts of strangers by 16 hexadecimal digits.
func hash(texts ...string) string {
	h := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return hex.EncodeToString(h[:8])
}

const (
	// maxKinds bounds the kinds of failures that one report adds to the sums of a policy.
	maxKinds = 50
	// maxSums bounds the sums of one report that tell policies, kinds and hosts apart: sums
	// are kept much longer than reports, and all texts in them are a stranger's.
	maxSums = 500
)

// newRecord returns the record of a report and what it adds to the sums. original
// stands for the report-id where there is none.
func newRecord(r *inbound.Report, original []byte, received time.Time) (*Record, []Sum) {
	day := r.Start
	if day.IsZero() {
		day = received
	}
	rec := &Record{
		Day: day.UTC().Format(time.DateOnly), Domain: r.Domain, Organization: cmp.Or(r.Organization, "unknown"), ReportID: r.ID,
		Contact: r.Contact, ReceivedAt: received.UTC(), Oddities: r.Oddities,
	}
	rec.Successful, rec.Failed = r.Sessions()
	rec.ID = hash(rec.Day, rec.Domain, strings.ToLower(rec.Organization), cmp.Or(r.ID, string(original)))
	sums := newSums(rec)
	for i := range r.Policies {
		p := &r.Policies[i]
		if seen := seenPolicy(p); len(rec.Policies) < maxSeen {
			rec.Policies = append(rec.Policies, seen)
		}
		sums.add(p.Domain, p.Type, "", "", "", p.Successful)
		unexplained := p.Failed
		for j := range p.Details {
			d := &p.Details[j]
			unexplained -= d.Sessions
			sums.add(p.Domain, p.Type, cmp.Or(d.ResultType, Unexplained), d.MXHost, d.Reason, d.Sessions)
		}
		sums.add(p.Domain, p.Type, Unexplained, "", "", unexplained)
	}
	sums.add(r.Domain, "", "", "", "", r.Omitted.Successful)
	sums.add(r.Domain, "", Unexplained, "", "", r.Omitted.Failed)
	return rec, sums.list
}

// sums collects what one report adds.
type sums struct {
	record *Record
	list   []Sum
	at     map[string]int // by key
	kinds  map[string]int // of failures, by domain and policy
}

func newSums(r *Record) *sums {
	return &sums{record: r, at: make(map[string]int), kinds: make(map[string]int)}
}

func (s *sums) has(sum *Sum) bool {
	_, known := s.at[string(sum.key())]
	return known
}

func (s *sums) add(domain, policy, kind, mx, reason string, sessions int64) {
	if sessions <= 0 {
		return
	}
	sum := Sum{Day: s.record.Day, Domain: domain, Organization: s.record.Organization, Policy: policy, Type: kind, MX: mx, Reason: reason, Sessions: sessions}
	of := domain + "\x00" + policy
	if kind != "" && s.kinds[of] >= maxKinds && !s.has(&sum) {
		sum.Type, sum.MX, sum.Reason = Unexplained, "", ""
	}
	if len(s.list) >= maxSums && !s.has(&sum) {
		sum.Policy, sum.MX, sum.Reason = "", "", ""
		if kind != "" {
			sum.Type = Unexplained
		}
	}
	key := string(sum.key())
	at, known := s.at[key]
	if !known {
		at = len(s.list)
		s.at[key] = at
		if s.list = append(s.list, sum); kind != "" {
			s.kinds[of]++
		}
		return
	}
	s.list[at].Sessions = inbound.Sum(s.list[at].Sessions, sessions)
	s.list[at].Reason = cmp.Or(reason, s.list[at].Reason)
}

// seenPolicy says what a sender has seen of a policy.
func seenPolicy(p *inbound.Policy) SeenPolicy {
	seen := SeenPolicy{Domain: p.Domain, Type: p.Type}
	if p.Type != "sts" || len(p.Strings) == 0 {
		return seen
	}
	if policy, _, err := sts.ParsePolicy([]byte(strings.Join(p.Strings, "\r\n") + "\r\n")); err == nil {
		seen.Mode, seen.ID = string(policy.Mode), publish.ID(publish.Text(policy))
	}
	return seen
}
