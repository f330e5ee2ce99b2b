package tlsrpt

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
)

// ErrNoRecord means that a domain publishes no TLS-RPT record: it wants no
// reports.
var ErrNoRecord = phrase.Errorf("no TLS-RPT record")

// ErrInvalidRecord means that there is a record, or several, that cannot be
// used; that counts as none.
var ErrInvalidRecord = phrase.Errorf("invalid TLS-RPT record")

// RecordName is where the record of a domain is (RFC 8460, 3).
func RecordName(domain string) string { return "_smtp._tls." + domain }

// Record is the TXT record at RecordName(DOMAIN).
type Record struct {
	// RUA is where reports go, in the order of the record, each once. Schemes
	// that are not known are left out, so that it may be empty.
	RUA []Destination
	// Ignored are the URIs that were left out, with the reason in words.
	Ignored []phrase.Phrase
}

// Scheme is how a report is submitted.
type Scheme string

// The schemes of RFC 8460, 3.
const (
	Mailto Scheme = "mailto"
	HTTPS  Scheme = "https"
)

// Destination is one URI of a rua.
type Destination struct {
	Scheme Scheme
	// Target is the mail address (with its domain in A-labels) or the whole URL.
	Target string
}

func (d Destination) String() string {
	if d.Scheme == Mailto {
		return "mailto:" + d.Target
	}
	return d.Target
}

// maxDestinations bounds what one record makes this relay send: it may name
// addresses of others (RFC 8460, 8).
const maxDestinations = 10

// ParseRecord reads the TXT records of _smtp._tls.DOMAIN, each with its strings
// joined. Those that do not begin with "v=TLSRPTv1;" are thrown away; exactly
// one must be left. The error wraps ErrNoRecord or ErrInvalidRecord.
func ParseRecord(txt []string) (Record, error) {
	var found []string
	for _, t := range txt {
		// The grammar allows white space before the first ";".
		if rest, ok := strings.CutPrefix(t, "v=TLSRPTv1"); ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";") {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return Record{}, ErrNoRecord
	case 1:
		return parseRecord(found[0])
	}
	return Record{}, phrase.Errorf("%w: %d records begin with v=TLSRPTv1, exactly one may", ErrInvalidRecord, len(found))
}

func parseRecord(t string) (Record, error) {
	var r Record
	found := false
	for f := range strings.SplitSeq(t, ";") {
		name, value, _ := strings.Cut(f, "=")
		if strings.Trim(name, " \t") != "rua" {
			continue // the version, and fields of the future
		}
		// The grammar has one rua with a list; some write one rua for each URI.
		found = true
		for uri := range strings.SplitSeq(value, ",") {
			r.add(strings.Trim(uri, " \t"))
		}
	}
	if !found {
		return Record{}, phrase.Errorf("%w: it has no rua", ErrInvalidRecord)
	}
	return r, nil
}

func (r *Record) add(uri string) {
	d, err := parseDestination(uri)
	if err == nil && !utf8.ValidString(d.Target) {
		err = phrase.Errorf("it is no UTF-8")
	}
	if err == nil && len(r.RUA) == maxDestinations {
		err = phrase.Errorf("only %d destinations are served", maxDestinations)
	}
	if err != nil {
		r.Ignored = append(r.Ignored, phrase.New("%q: %v", uri, err))
		return
	}
	for _, have := range r.RUA {
		if have == d {
			return
		}
	}
	r.RUA = append(r.RUA, d)
}

// reserved are the characters that a record must write as %XX (RFC 8460, 3).
var reserved = strings.NewReplacer("%2C", ",", "%2c", ",", "%21", "!", "%3B", ";", "%3b", ";")

func parseDestination(uri string) (Destination, error) {
	uri = withoutSize(uri)
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return Destination{}, phrase.Errorf("it is no URI")
	}
	switch strings.ToLower(scheme) {
	case "mailto":
		return parseMailto(rest)
	case "https":
		return parseHTTPS("https:" + reserved.Replace(rest))
	}
	return Destination{}, phrase.Errorf("only mailto and https are known")
}

// withoutSize takes off the limit that DMARC knows, "!10m" (RFC 7489, 6.2), and
// that some write here too.
func withoutSize(uri string) string {
	i := strings.LastIndexByte(uri, '!')
	if i < 0 {
		return uri
	}
	size := strings.TrimRight(strings.ToLower(uri[i+1:]), "kmgt")
	if size == "" || len(uri)-i-1-len(size) > 1 || strings.Trim(size, "0123456789") != "" {
		return uri
	}
	return uri[:i]
}

// parseMailto reads one address (RFC 6068); header fields are ignored, and so are
// the slashes that some write as in a URL.
func parseMailto(s string) (Destination, error) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "//"), "?")
	s, err := url.PathUnescape(s)
	if err != nil {
		return Destination{}, err
	}
	m, err := mailbox.Parse(s)
	if err != nil {
		return Destination{}, err
	}
	if strings.HasPrefix(m.Domain, "[") {
		return Destination{}, phrase.Errorf("reports are not sent to address literals")
	}
	return Destination{Scheme: Mailto, Target: s[:strings.LastIndexByte(s, '@')+1] + m.Domain}, nil
}

func parseHTTPS(s string) (Destination, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return Destination{}, phrase.Errorf("it is no URL")
	case u.Hostname() == "":
		return Destination{}, phrase.Errorf("it has no host")
	case u.User != nil:
		return Destination{}, phrase.Errorf("a user in a URL is not supported")
	}
	u.Fragment, u.RawFragment = "", ""
	return Destination{Scheme: HTTPS, Target: u.String()}, nil
}
