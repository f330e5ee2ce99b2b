package notify

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// The texts of a language are templates: "failed.text" and the like for the frame,
// "what.KEY" and "do.KEY" for what happened and its remedy, "fault.KEY" for a fault of a
// protected connection.
//
//go:embed texts/*.txt
var texts embed.FS

var languages = map[string]*template.Template{
	"en": template.Must(template.ParseFS(texts, "texts/en.txt")),
	"de": template.Must(template.ParseFS(texts, "texts/de.txt")),
}

func (r *Reporter) texts() *template.Template {
	if r.Language != nil {
		if t := languages[r.Language()]; t != nil {
			return t
		}
	}
	return languages["en"]
}

// textRemoved is the key of the text for mail that the operator gave up.
const textRemoved = "removed"

// textKey returns the key of the text that explains a reason and an enhanced status
// code (RFC 3463), and whether the mail is held because there is no protected
// connection.
func textKey(code, status string) (key string, protection bool) {
	row := failure.Of(code)
	_, detail, _ := strings.Cut(status, ".")
	switch {
	case row.Protection && (detail == "7.10" || detail == "7.30"): // RFC 8689, 4.2.1
		return failure.RequireTLS.Row().Text, false
	case row.Reason == failure.DNS && detail == "1.2":
		return "no-domain", false
	case row.Reason == failure.Recipient, row.Reason == failure.Content:
		return cmp.Or(replyText(detail), row.Text), false
	}
	return row.Text, row.Protection
}

// replyText is the key of the text for the end of the enhanced status code of a reply, ""
// where there is no special one.
func replyText(detail string) string {
	switch detail {
	case "1.1", "1.0", "1.6", "1.10":
		return "no-mailbox"
	case "2.1":
		return "disabled"
	case "2.2":
		return "full"
	case "2.3", "3.4":
		return failure.Size.Row().Text
	}
	if strings.HasPrefix(detail, "7.") {
		return "refused"
	}
	return ""
}

// putOff is the key of the text where the host only ever gave temporary replies.
func putOff(key string) string {
	switch key {
	case failure.Recipient.Row().Text, failure.Content.Row().Text, "refused", "disabled":
		return "deferred"
	}
	return key
}

// Once reports whether the sender gets such a notice only once a day.
func (g *group) Once() bool { return g.protection }

// group has recipients with the same result.
type group struct {
	Recipients       []string
	What, Do         string
	key, domain      string
	protection       bool
	expired          bool
	Domain, Hostname string
	Fault, Note      string
	// Tried is the number of whole hours since the arrival of the message.
	Tried int
}

// Days are those of Tried, 0 where there are less than two.
func (g *group) Days() int {
	if g.Tried < 48 {
		return 0
	}
	return g.Tried / 24
}

// page has the values for the texts.
type page struct {
	Subject     string // of the message, "" where it has none
	Sent, Until time.Time
	Groups      []*group
	Hostname    string
	ID          string
	Details     []string
}

func (n *notice) page(original []byte) page {
	p := page{
		Subject: subjectOf(original), Sent: n.env.ReceivedAt.UTC(), Until: n.until,
		Hostname: n.reporter.Hostname, ID: n.env.ID.String(),
	}
	t := n.reporter.texts()
	for _, e := range n.entries {
		same := func(g *group) bool {
			return n.action == Relayed || g.key == e.key && g.expired == e.expired && g.domain == e.recipient.Domain
		}
		i := slices.IndexFunc(p.Groups, same)
		if i < 0 {
			g := &group{
				key: e.key, protection: e.protection, domain: e.recipient.Domain, expired: e.expired, Domain: e.recipient.Domain,
				Hostname: p.Hostname, Note: oneLine(n.note), Tried: int(n.now.Sub(n.env.ReceivedAt).Hours()),
			}
			name := e.key
			if t.Lookup("what."+name) == nil {
				name, g.Fault = "tls", render(t, "fault."+e.key, g)
			}
			g.What, g.Do = render(t, "what."+name, g), render(t, "do."+name, g)
			if g.expired {
				g.What = render(t, "tried", g) + " " + g.What
			}
			p.Groups = append(p.Groups, g)
			i = len(p.Groups) - 1
		}
		p.Groups[i].Recipients = append(p.Groups[i].Recipients, e.recipient.Address)
		p.Details = append(p.Details, n.detail(e))
	}
	return p
}

// detail is one recipient's line for the administrator.
func (n *notice) detail(e entry) string {
	d := e.recipient.Address + ": "
	if n.action == Relayed {
		return d + oneLine(e.state.Host+" said: "+e.state.LastReply)
	}
	return d + oneLine(e.state.LastError)
}

func render(t *template.Template, name string, data any) string {
	var b strings.Builder
	if err := t.ExecuteTemplate(&b, name, data); err != nil {
		panic(fmt.Sprintf("notify: %v", err)) // every text is tested
	}
	return b.String()
}

// text is the text part.
func (n *notice) text(p page) []byte {
	t := n.reporter.texts()
	return wrapped(render(t, string(n.action)+".text", p) + render(t, "details", p))
}

// wrapped is a text in lines of at most 76 characters.
func wrapped(text string) []byte {
	var b bytes.Buffer
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		b.WriteString(wrap(line, indent, 76))
	}
	return b.Bytes()
}

func (n *notice) subject(p page) string {
	return render(n.reporter.texts(), string(n.action)+".subject", p)
}

// wrap breaks a text into indented lines of at most width characters, where it
// has words that allow it.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			b.WriteString(indent + line + "\r\n")
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	if line != "" {
		line = indent + line
	}
	return b.String() + line + "\r\n"
}

// maxSubject bounds what is quoted of a subject.
const maxSubject = 120

// subjectOf is the subject of a message, decoded.
func subjectOf(header []byte) string {
	for field := range mailheader.Fields(header) {
		switch {
		case field[0] == '\r' || field[0] == '\n': // the end of it
			return ""
		case len(field) >= 8 && strings.EqualFold(string(field[:8]), "subject:"):
			return decodeSubject(mailheader.Value(field))
		}
	}
	return ""
}

func decodeSubject(s string) string {
	s = strings.Join(strings.Fields(oneLine(strings.ToValidUTF8(mailheader.Decoded(s), "?"))), " ")
	if r := []rune(s); len(r) > maxSubject {
		s = string(r[:maxSubject-1]) + "…"
	}
	return s
}

func oneLine(s string) string {
	return textproto.TrimString(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s))
}
