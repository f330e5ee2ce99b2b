//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"encoding/base64"

	"github.com/emersion/go-msgauth/dkim"
)

// arrival is a message that a host has delivered to a recipient.
type arrival struct {
	from string
	// hash is of all that arrived, the host's own trace fields too: what is the same
	// to the last octet came out of the host's own queue twice.
	hash [sha256.Size]byte
	// faults are the faults of the content.
	faults []string
}

// arrivals are the messages that have arrived so far, by recipient.
type arrivals struct {
	byRecipient map[string][]arrival
	stray       []string // messages that were not sent
}

func newArrivals() arrivals { return arrivals{byRecipient: make(map[string][]arrival)} }

var messageID = regexp.MustCompile(`(?mi)^Message-ID: <([^@>]+)@`)

// readArrivals reads the messages that have arrived at a host since the last call. A file in
// /judge/mail has the sender in its first line, the recipient in its second, and
// then the message.
func (w *world) readArrivals(h *host, p *plan) error {
	if h.next != nil {
		messages := h.next.Messages()
		for _, m := range messages[h.taken:] {
			for _, to := range m.Recipients {
				w.arrived(h, p, m.From, to, m.Data)
			}
		}
		h.taken = len(messages)
		return nil
	}
	files, err := os.ReadDir(filepath.Join(h.root, "judge", "mail"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if h.read[f.Name()] || strings.HasPrefix(f.Name(), "tmp.") {
			continue
		}
		h.read[f.Name()] = true
		data, err := os.ReadFile(filepath.Join(h.root, "judge", "mail", f.Name()))
		if err != nil {
			return err
		}
		from, rest, _ := bytes.Cut(data, []byte("\n"))
		to, content, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return fmt.Errorf("%s: the file %s has no sender and recipient", h.Name, f.Name())
		}
		w.arrived(h, p, strings.Trim(string(from), "<>"), strings.Trim(string(to), "<>"), content)
	}
	return nil
}

func (w *world) arrived(h *host, p *plan, from, to string, content []byte) {
	if from == "MAILER-DAEMON" {
		from = "" // what pipes of some hosts call the null sender
	}
	if h.Wreck != "" && !h.killed.IsZero() && bytes.Contains(content, []byte(h.Wreck)) {
		return
	}
	a := arrival{from: from, hash: sha256.Sum256(content)}
	id := messageID.FindSubmatch(content)
	m := p.byAddress[to]
	switch {
	case id == nil || m == nil:
		w.seen.stray = append(w.seen.stray, fmt.Sprintf("%s has a message from <%s> to <%s> that nobody has sent", h.Name, from, to))
		return
	case string(id[1]) != m.token:
		a.faults = append(a.faults, fmt.Sprintf("misplaced: <%s> got the message %s", to, id[1]))
	default:
		a.faults = contentFaults(m, content, h.KeepsHeader, w.lookupTXT)
	}
	w.seen.byRecipient[to] = append(w.seen.byRecipient[to], a)
}

func (w *world) lookupTXT(name string) ([]string, error) { return w.net.DNS.TXT(name), nil }

// contentFaults compares what arrived with what was sent. Hosts keep messages with
// line ends of LF and put their trace fields before the header, as the relay does.
func contentFaults(m *message, got []byte, keepsHeader bool, lookup func(string) ([]string, error)) (faults []string) {
	got = crlf(got)
	switch {
	case bytes.HasSuffix(got, m.content):
	case m.rewritten || !keepsHeader:
		if err := sameMeaning(m, got); err != nil {
			faults = append(faults, fmt.Sprintf("changed: %s (%s) is not what was sent: %v", m.token, m.kind, err))
		}
	default:
		faults = append(faults, fmt.Sprintf("changed: %s (%s) is not what was sent, octet for octet: %s", m.token, m.kind, firstDifference(m.content, got)))
	}
	signatures, err := dkim.VerifyWithOptions(bytes.NewReader(got), &dkim.VerifyOptions{LookupTXT: lookup})
	if err == nil && len(signatures) == 0 {
		err = errors.New("there is none")
	}
	for _, s := range signatures {
		err = errors.Join(err, s.Err)
	}
	if err != nil {
		faults = append(faults, fmt.Sprintf("signature: DKIM of %s (%s): %v", m.token, m.kind, err))
	}
	return faults
}

func crlf(b []byte) []byte {
	if bytes.Contains(b, []byte("\r\n")) {
		return b
	}
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}

// firstDifference shows the line where the body becomes another.
func firstDifference(want, got []byte) string {
	_, wantBody, _ := bytes.Cut(want, []byte("\r\n\r\n"))
	_, gotBody, _ := bytes.Cut(got, []byte("\r\n\r\n"))
	w, g := bytes.SplitAfter(wantBody, []byte("\r\n")), bytes.SplitAfter(gotBody, []byte("\r\n"))
	for i := range max(len(w), len(g)) {
		switch {
		case i >= len(g):
			return fmt.Sprintf("line %d of the body is missing", i+1)
		case i >= len(w):
			return fmt.Sprintf("line %d of the body, %.80q, is too many", i+1, g[i])
		case !bytes.Equal(w[i], g[i]):
			return fmt.Sprintf("line %d of the body is %.80q, not %.80q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("the header is %.2000q", bytes.TrimSuffix(got, gotBody))
}

// sameMeaning compares the fields and the decoded body.
// Only a message that may be encoded anew may have another encoding.
func sameMeaning(m *message, got []byte) error {
	want, err := mail.ReadMessage(bytes.NewReader(m.content))
	if err != nil {
		return err
	}
	have, err := mail.ReadMessage(bytes.NewReader(got))
	if err != nil {
		return err
	}
	for name, values := range want.Header {
		if name == "Content-Transfer-Encoding" && m.rewritten {
			continue
		}
		if w, h := plainField(values[0]), plainField(have.Header.Get(name)); w != h {
			return fmt.Errorf("the field %s is %.80q, not %.80q", name, h, w)
		}
	}
	wantBody, err := decoded(want)
	if err != nil {
		return err
	}
	haveBody, err := decoded(have)
	if err != nil {
		return err
	}
	if !bytes.Equal(wantBody, haveBody) {
		return errors.New(firstDifference(append([]byte("\r\n\r\n"), wantBody...), append([]byte("\r\n\r\n"), haveBody...)))
	}
	return nil
}

// plainField is a field's text without what folding changes.
func plainField(s string) string { return strings.Join(strings.Fields(s), " ") }

func decoded(m *mail.Message) ([]byte, error) {
	r := m.Body
	switch strings.ToLower(m.Header.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	data, err := io.ReadAll(r)
	return crlf(data), err
}
