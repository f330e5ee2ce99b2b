package inbound

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// Found is one report, or one place where a report should have been.
type Found struct {
	// Report is the report; nil where Err says why it cannot be read. Err wraps
	// ErrNoReport where nothing looks like a report, ErrTooLarge where it is too large.
	Report *Report
	Err    error
	// Original is the report as it came, as JSON compressed by gzip; nil where that has
	// more than MaxOriginal octets.
	Original []byte
	// Mail is the header of the mail that the report came in; nil for files.
	Mail *Mail
	// SignedBy is what verify of ReadVerified says of that mail, or of one around it.
	SignedBy string
	// Where names the place inside what was read: a name in an archive, the number of a
	// mail. "" where there is one only.
	Where string
}

// MaxOriginal is the size of an original that is kept, compressed, in octets.
const MaxOriginal = 1 << 20

// maxZip is the size of a zip file that is read, in octets; zip files are read
// from their end, so they lie in memory.
const maxZip = 4 << 20

// maxEntries is the number of files of an archive that are looked at.
const maxEntries = 100

// Read reads a file of any kind that reports come in: JSON, gzip, zip, a mail, an mbox
// file. The content alone says which one it is. name is the file's name, "" where it is
// not known; the domain and the time are taken from it where the report has none. yield
// is called with each report that is found, until it returns false. The error is that of
// r.
func Read(r io.Reader, name string, yield func(Found) bool) error {
	return ReadVerified(r, name, nil, yield)
}

// ReadVerified is Read, and has verify say which domain a mail is signed by, "" for none.
// Mails of more than 8 MiB are not shown to it; nil: none are.
func ReadVerified(r io.Reader, name string, verify func(mail io.Reader) string, yield func(Found) bool) error {
	source := &errorReader{from: r}
	b := bufio.NewReaderSize(source, 4096)
	if start, _ := b.Peek(5); string(start) == "From " {
		readMbox(b, verify, yield)
	} else {
		s := &scan{left: MaxSize, verify: verify, yield: yield}
		s.file(b, name, 0)
		s.nothing()
	}
	return source.err
}

// errorReader remembers the error of a reader, which the readers above it may turn into
// one of their own.
type errorReader struct {
	from io.Reader
	err  error
}

// Read implements io.Reader.
func (e *errorReader) Read(b []byte) (int, error) {
	n, err := e.from.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}

// scan looks for reports in one mail or file.
type scan struct {
	left  int64 // octets that may still be decompressed or decoded
	mail  *Mail
	where string
	yield func(Found) bool
	// verify is nil where nothing is verified; signed is what it has said.
	verify func(mail io.Reader) string
	signed string
	found  int  // reports, and files that look like one
	ended  bool // yield does not want more
}

// nothing yields ErrNoReport where nothing was found.
func (s *scan) nothing() {
	if s.found == 0 && !s.ended {
		s.give(Found{Err: ErrNoReport})
	}
}

// give yields what was found.
func (s *scan) give(f Found) {
	if s.ended {
		return
	}
	s.found++
	f.Mail, f.SignedBy = s.mail, s.signed
	if f.Where == "" {
		f.Where = s.where
	}
	s.ended = !s.yield(f)
}

// bounded reads as much as is left of a scan.
type bounded struct {
	scan *scan
	from io.Reader
}

// Read implements io.Reader.
func (b bounded) Read(p []byte) (int, error) {
	if b.scan.left <= 0 {
		return 0, fmt.Errorf("%w: more than %d octets after decompression", ErrTooLarge, MaxSize)
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.scan.left)])
	b.scan.left -= int64(n)
	return n, err
}

// maxNesting is how deep archives and mails may lie in each other.
const maxNesting = 8

// file looks at one file, of which the first octets say what it is.
func (s *scan) file(r io.Reader, name string, nesting int) {
	if nesting > maxNesting || s.ended {
		return
	}
	b := bufio.NewReaderSize(bounded{s, r}, 4096)
	if start, _ := b.Peek(3); string(start) == "\xef\xbb\xbf" { // a byte order mark
		_, _ = b.Discard(3)
	}
	start, err := b.Peek(512)
	start = bytes.TrimLeft(start, " \t\r\n")
	switch {
	case bytes.HasPrefix(start, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(b)
		if err != nil {
			s.give(Found{Err: fmt.Errorf("gzip: %w", err), Where: name})
			return
		}
		s.file(z, strings.TrimSuffix(name, ".gz"), nesting+1)
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		s.zip(b, name, nesting)
	case bytes.HasPrefix(start, []byte("\xd0\xcf\x11\xe0")):
		s.give(Found{Err: fmt.Errorf("%w: this is a file of Outlook (.msg): open it there, and save the report that is attached", ErrNoReport), Where: name})
	case bytes.HasPrefix(start, []byte("{")):
		s.json(b, name)
	case nesting == 0 || strings.HasSuffix(strings.ToLower(name), ".eml"):
		s.message(b, nesting)
	case err != nil && !errors.Is(err, io.EOF):
		s.give(Found{Err: err, Where: name})
	}
}

// json reads a report, and keeps it compressed.
func (s *scan) json(r io.Reader, name string) {
	keep := &limitedBuffer{most: MaxOriginal}
	z := gzip.NewWriter(keep)
	report, err := readJSON(io.TeeReader(r, z))
	switch {
	case errors.Is(err, ErrNoReport):
		return
	case err != nil:
		s.give(Found{Err: err, Where: name})
		return
	}
	f := Found{Report: report, Where: name}
	if z.Close() == nil && !keep.full {
		f.Original = keep.Bytes()
	}
	s.finish(report, name)
	s.give(f)
}

// limitedBuffer keeps at most so many octets.
type limitedBuffer struct {
	bytes.Buffer
	most int
	full bool
}

// Write implements io.Writer. It never fails.
func (l *limitedBuffer) Write(b []byte) (int, error) {
	if l.full = l.full || l.Len()+len(b) > l.most; !l.full {
		l.Buffer.Write(b)
	}
	return len(b), nil
}

// finish fills in what only the mail or the name of the file says.
func (s *scan) finish(r *Report, name string) {
	file := fileNameOf(name)
	if r.Domain = file.domain; s.mail != nil && s.mail.ReportDomain != "" {
		r.Domain = domainName(s.mail.ReportDomain)
	}
	if r.Domain == "" {
		r.Domain = domainOf(r.Policies)
	}
	for i := range r.Policies {
		p := &r.Policies[i]
		// A report is about one domain. The policy domain of TLSA records is their host
		// (RFC 8460, 1.1), as Postfix and mox write it.
		if p.Type == "tlsa" && p.Domain != r.Domain && p.Domain != "" {
			if len(p.MXHosts) == 0 {
				p.MXHosts = []string{p.Domain}
			}
			p.Domain = r.Domain
		}
		if p.Domain == "" {
			p.Domain = r.Domain
		}
	}
	if r.Organization == "" {
		r.Organization = file.submitter
	}
	if r.Organization == "" && s.mail != nil {
		r.Organization = s.mail.submitter()
	}
	if r.Start.IsZero() {
		r.Start = file.start
	}
	if r.End.IsZero() {
		r.End = file.end
	}
}

// domainOf returns the domain that policies are about: that of TLSA records may be their host.
func domainOf(policies []Policy) (domain string) {
	for i := range policies {
		if p := &policies[i]; p.Type != "tlsa" && p.Domain != "" {
			return p.Domain
		}
	}
	for i := range policies {
		domain = cmp.Or(domain, policies[i].Domain)
	}
	return domain
}

// namedFile is what a file name says (RFC 8460, 5.1).
type namedFile struct {
	submitter, domain string
	start, end        time.Time
}

// fileNameOf reads the name of a report's file: submitter, policy domain, begin and end,
// with "!" between them.
func fileNameOf(name string) namedFile {
	parts := strings.Split(path.Base(strings.ReplaceAll(name, `\`, "/")), "!")
	if len(parts) < 4 {
		return namedFile{}
	}
	end, _, _ := strings.Cut(parts[3], ".")
	return namedFile{short(domainName(parts[0])), short(domainName(parts[1])), readTime(parts[2]), readTime(end)}
}

// zip looks at the files of an archive.
func (s *scan) zip(r io.Reader, name string, nesting int) {
	whole, err := io.ReadAll(io.LimitReader(r, maxZip+1))
	if err == nil && len(whole) > maxZip {
		err = fmt.Errorf("%w: a zip file of more than %d octets", ErrTooLarge, maxZip)
	}
	var archive *zip.Reader
	if err == nil {
		archive, err = zip.NewReader(bytes.NewReader(whole), int64(len(whole)))
	}
	if err != nil {
		s.give(Found{Err: fmt.Errorf("zip: %w", err), Where: name})
		return
	}
	for i, entry := range archive.File {
		if i == maxEntries || s.ended {
			break
		}
		if strings.HasSuffix(entry.Name, "/") {
			continue
		}
		file, err := entry.Open()
		if err != nil {
			s.give(Found{Err: fmt.Errorf("zip: %w", err), Where: entry.Name})
			continue
		}
		s.file(file, entry.Name, nesting+1)
		_ = file.Close() // only its checksum could fail here
	}
}
