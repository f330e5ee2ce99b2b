package ingress

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/queue"
)

// journal queues the copy of a message for the journal address. It is durable before the
// message is, so that no message leaves without one; where the message is then not
// accepted, its client sends it again, and there is another copy. The copy is a message of
// its own: what becomes of it is no part of the notices about the other one. Notices about
// the copy go to the postmaster.
func (m *incoming) journal() error {
	s := m.session
	rules := s.server.rules.Load()
	if rules.Journal == "" || !journaled(m.env, rules) {
		return nil
	}
	domain := rules.Journal[strings.LastIndexByte(rules.Journal, '@')+1:]
	env := *m.env
	env.From, env.EnvID, env.Ret, env.TLSOptional = rules.Postmaster, "", "", false
	env.Recipients = []queue.Recipient{{Address: rules.Journal, Domain: strings.ToLower(domain)}}
	content, err := m.in.Reader()
	if err != nil {
		return err
	}
	in, err := s.server.queue.Begin()
	if err != nil {
		return err
	}
	defer in.Abort()
	if _, err := in.Write(append(mailheader.Fold(envelopeFields(m.env)), m.fields...)); err != nil {
		return err
	}
	if _, err := io.Copy(in, content); err != nil {
		return err
	}
	if err := in.Commit(s.server.ctx(), env); err != nil {
		return err
	}
	s.server.took(in, in.ID().String(), &env, slog.String("journal_of", m.id))
	return nil
}

// journaled reports whether a message gets a copy: not one to the journal address alone,
// and not a bounce to the postmaster alone, which may be about a copy. Copies of those
// would make others, without an end.
func journaled(env *queue.Envelope, rules *Options) bool {
	return slices.ContainsFunc(env.Recipients, func(r queue.Recipient) bool {
		return !strings.EqualFold(r.Address, rules.Journal) && (env.From != "" || !strings.EqualFold(r.Address, rules.Postmaster))
	})
}

// envelopeFields are the header fields of a copy that say who the envelope named: Bcc
// recipients are in no other field.
func envelopeFields(env *queue.Envelope) []byte {
	b := fmt.Appendf(nil, "X-Envelope-From: <%s>\r\n", env.From)
	for i, r := range env.Recipients {
		lead, end := "\t", ",\r\n"
		if i == 0 {
			lead = "X-Envelope-To: "
		}
		if i == len(env.Recipients)-1 {
			end = "\r\n"
		}
		b = fmt.Appendf(b, "%s<%s>%s", lead, r.Address, end)
	}
	return b
}
