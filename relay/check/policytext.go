package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/sts"
)

func (c *checker) describePolicy(p *policyLookups) *Policy {
	switch {
	case p.fetched != nil:
		return c.describeValid(p.fetched)
	case p.fetchErr == nil || p.fetchErr.Type != sts.PolicyInvalid:
		return nil
	}
	out := &Policy{Problems: []Problem{{Fault, phrase.Of(p.fetchErr.Err), "RFC 8461, 3.2", invalidRemedy(p.fetchErr)}}}
	out.Lines, out.MoreLines = lines(p.fetchErr.Text)
	out.Problems = append(out.Problems, lineEnds(p.fetchErr.Text)...)
	return out
}

func (c *checker) describeValid(f *sts.Fetched) *Policy {
	policy := f.Policy
	out := &Policy{
		Valid: true, Mode: string(policy.Mode), MaxAge: int64(policy.MaxAge / time.Second), MX: policy.MX,
		InForce: c.policy.Policy != nil && c.policy.Policy.Text() == policy.Text(),
	}
	out.Lines, out.MoreLines = lines(f.Text)
	for _, w := range f.Warnings {
		out.Problems = append(out.Problems, warningProblems(w)...)
	}
	switch policy.Mode {
	case sts.ModeTesting:
		out.Problems = append(out.Problems, Problem{Warning, phrase.New("the mode is testing: failures are reported, and mail goes on unprotected; for how long that has been so cannot be told from here"),
			"RFC 8461, 5", phrase.New("the domain's owner: when TLS reports have been clean for some weeks, change the mode to enforce, and the id")})
	case sts.ModeNone:
		out.Problems = append(out.Problems, Problem{Note, phrase.New("the mode is none: the domain has no policy any more, or not yet"), "RFC 8461, 8.3", phrase.New("nothing, if that is meant")})
	}
	out.Problems = append(out.Problems, lineEnds(f.Text)...)
	return out
}

// warningProblems explains a warning about the text of a policy: a problem for each of its
// texts, and one with the number of the others. Warnings about the policy host are left
// to the description of that.
func warningProblems(w sts.Warning) (out []Problem) {
	p := Problem{Severity: Warning, Rule: "RFC 8461, 3.2", Remedy: policyRemedy}
	switch w.Code {
	case sts.WarnContentType, sts.WarnCompressed:
		return nil
	case sts.WarnShortAge:
		p.Remedy = phrase.New("the domain's owner: raise max_age to weeks (1209600); mode testing is the place for short ones")
	case sts.WarnUnknownKey:
		p.Severity, p.Remedy = Note, phrase.New("the domain's owner: remove the line, if it was meant for senders")
	case sts.WarnIndented:
		p.Remedy = phrase.New("the domain's owner: let each line begin with its key; other senders pass over the line, or refuse the policy")
	case sts.WarnManyMX:
		p.Remedy = phrase.New("the domain's owner: name hosts by wildcards, such as *.mail.example")
	}
	for _, text := range w.Texts {
		p.Text = text
		out = append(out, p)
	}
	if w.More > 0 {
		p.Text = phrase.New("%d more of this kind", w.More)
		out = append(out, p)
	}
	return out
}

var (
	policyRemedy = phrase.New("the domain's owner: correct the text, then change the id in the record")
	plainRemedy  = phrase.New("the domain's owner: let the web server send this file as it is (nginx: gzip off, gzip_static off; Apache: SetEnv no-gzip 1)")
)

// invalidRemedy is the remedy for a text that is not a policy.
func invalidRemedy(err error) phrase.Phrase {
	switch {
	case errors.Is(err, sts.ErrEmptyPolicy):
		return phrase.New("the domain's owner: put the policy into the file that the web server sends, and see that it has a site of this name (Caddy answers 200 and nothing where it has none)")
	case errors.Is(err, sts.ErrUTF16):
		return phrase.New("the domain's owner: save the file as UTF-8 without a byte order mark (in Notepad: UTF-8; in PowerShell: -Encoding ascii), then change the id in the record")
	case errors.Is(err, sts.ErrGzip):
		return phrase.New("the domain's owner: unpack the file on the web server (gunzip): it holds compressed data, and nothing says so")
	case errors.Is(err, sts.ErrHTML):
		return phrase.New("the domain's owner: serve the policy itself, as a plain text, at exactly this path; a web page was sent in its place, with status 200")
	}
	return policyRemedy
}

// lineEnds notes line ends that are wrong: the report does not show them.
func lineEnds(text string) []Problem {
	crlf := strings.Count(text, "\r\n")
	bareCR, bareLF := strings.Count(text, "\r")-crlf, strings.Count(text, "\n")-crlf
	switch {
	case strings.Contains(text, "\x00") || strings.HasPrefix(text, "\x1f\x8b"):
		return nil // it is not text
	case bareCR > 0:
		return []Problem{{Fault, phrase.New("the text has a CR without LF; that ends no line"), "RFC 8461, 3.2", phrase.New("the domain's owner: end every line with LF or CRLF")}}
	case crlf > 0 && bareLF > 0:
		return []Problem{{Note, phrase.New("some lines end with CRLF, some with LF; this relay takes both, others may not"), "RFC 8461, 3.2", phrase.New("the domain's owner: end every line in the same way")}}
	}
	return nil
}

// lines splits a text into lines for display; more is how many are left out.
func lines(text string) (out []string, more int) {
	out = []string{}
	if text == "" {
		return out, 0
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if len(out) == maxList {
			more++
			continue
		}
		out = append(out, strings.TrimSuffix(line, "\r"))
	}
	return out, more
}

// patterns notes the mx patterns of the policy that cover no host of the domain.
func (c *checker) patterns() {
	p := c.report.Policy
	if p == nil || !p.Valid || c.report.MX.From == "route" || len(c.hosts) == 0 {
		return
	}
	var idle []string
	for _, m := range p.MX {
		one := sts.Policy{MX: []string{m}}
		if !slices.ContainsFunc(c.hosts, func(h *host) bool { _, ok := one.Match(h.Name); return ok }) {
			idle = append(idle, m)
		}
	}
	if len(idle) == 0 {
		return
	}
	const most = 5
	listed := phrase.Quote(strings.Join(idle[:min(len(idle), most)], ", "))
	if n := len(idle) - most; n > 0 {
		listed = phrase.New("%s and %d more", listed, n)
	}
	p.Problems = append(p.Problems, Problem{Warning, phrase.New("no MX host is covered by the mx %s", listed), "RFC 8461, 3.2",
		phrase.New("the domain's owner: remove it, if it is not there for hosts to come; whoever can get such a name into the MX records may receive the mail")})
}

// maxOfAKind is how many problems of one kind are listed.
const maxOfAKind = 5

// problemsOf makes a problem of each item, of maxOfAKind at most, and one with the number
// of the others. Strangers decide how many items there are.
func problemsOf[T any](items []T, problem func(item T) Problem) (out []Problem) {
	for _, item := range items[:min(len(items), maxOfAKind)] {
		out = append(out, problem(item))
	}
	if n := len(items) - maxOfAKind; n > 0 {
		p := problem(items[0])
		p.Text = phrase.New("%d more of this kind", n)
		out = append(out, p)
	}
	return out
}

// lookalikes are the TXT records that have a version tag in them, in upper or lower case.
func lookalikes(txt []string, tag string) (out []string) {
	for _, t := range txt {
		if strings.Contains(strings.ToLower(t), tag) {
			out = append(out, t)
		}
	}
	return out
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

func shorten(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
