package received

import (
	"context"
	"io"
	"net/mail"
	"regexp"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
)

// maxSignatures bounds the DKIM signatures of a mail that are verified: each costs a
// lookup.
const maxSignatures = 5

// maxKeyRecord is the longest key record that is used, in octets: the time that a signature
// takes grows with the square of its key.
const maxKeyRecord = 4 << 10

// serviceTag is the tag of a key record that says which services the key is for.
var serviceTag = regexp.MustCompile(`(?i)(^|;)\s*s\s*=[^;]*`)

// verify returns the domain whose DKIM signature of a mail holds, "" for none: that of
// the author's domain, if there is one. A report is taken in without it, too: mail servers
// on the way may have changed the mail.
func (a *Archive) verify(ctx context.Context, content io.Reader) string {
	if a.o.LookupTXT == nil {
		return ""
	}
	var author string
	header := &limitedBuffer{most: 64 << 10}
	list, err := dkim.VerifyWithOptions(io.TeeReader(content, header), &dkim.VerifyOptions{MaxVerifications: maxSignatures, LookupTXT: func(name string) ([]string, error) {
		records, err := a.o.LookupTXT(ctx, name)
		records = slices.Clone(records) // they may be those of a cache
		records = slices.DeleteFunc(records, func(r string) bool { return len(r) > maxKeyRecord })
		for i, r := range records {
			// A key for reports may be for nothing else (s=tlsrpt, RFC 8460, 3), which the
			// library does not know.
			if tag := serviceTag.FindString(r); strings.Contains(strings.ToLower(tag), "tlsrpt") {
				records[i] = serviceTag.ReplaceAllString(r, "")
			}
		}
		return records, err
	}})
	if err != nil && len(list) == 0 {
		return ""
	}
	if m, err := mail.ReadMessage(header); err == nil {
		if from, err := mail.ParseAddress(m.Header.Get("From")); err == nil {
			author = strings.ToLower(from.Address[strings.LastIndexByte(from.Address, '@')+1:])
		}
	}
	signed := ""
	for _, v := range list {
		domain := strings.ToLower(v.Domain)
		switch {
		case v.Err != nil:
		case domain == author || strings.HasSuffix(author, "."+domain):
			return domain
		case signed == "":
			signed = domain
		}
	}
	return signed
}
