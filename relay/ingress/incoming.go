package ingress

import (
	"errors"
	"io"

	"github.com/stsrelay/stsrelay/internal/sevenbit"
	"github.com/stsrelay/stsrelay/queue"
)

// incoming is a message whose content comes in.
type incoming struct {
	session *session
	env     *queue.Envelope
	in      *queue.Incoming
	id      string // of in
	domain  string // for which it is signed, "" for none
	signing Signing
	fields  []byte // of its signatures
	header  headerReader
	content contentWriter
}

// read streams the content into the queue. Only a message with lines that are too
// long is written twice.
func (m *incoming) read() error {
	s := m.session
	limits := s.server.limits()
	h := &m.header
	*h = headerReader{w: m.in, keep: s.server.rules.Load().Headers.keeps(s.server.hostname)}
	if rewrite := s.server.rules.Load().Rewrite; len(rewrite) > 0 {
		h.change = rewrite.field
	}
	h.complete = func(head header) ([]byte, error) {
		if e := s.checkAuthors(head.from); e != nil {
			return nil, e
		}
		if s.server.rules.Load().Sign != nil {
			m.domain = signingDomain(&head, m.env)
		}
		h.w = m.signed()
		return s.complete(head, m.env, m.id)
	}
	c := &m.content
	*c = contentWriter{w: h}
	switch limits.LongLines {
	case "reject":
		c.maxLine = smtpLine
	case "pass":
		c.maxLine = maxLine
	}
	err := s.copy(c)
	if err == nil {
		err = h.finish()
	}
	if err == nil && limits.LongLines == "convert" && c.long > 0 {
		err = m.shorten()
	}
	bare := s.conn.content.filter.bare
	if bare > 0 {
		s.server.log.Info("bare newlines in a message", "queue_id", m.in.ID().String(), "client", s.conn.remote.String(), "count", bare, "action", limits.BareNewline)
	}
	if err == nil && bare > 0 && limits.BareNewline == "reject" {
		err = reply(550, 5, 6, 11, "the message has %d bare CR or LF, which this relay refuses", bare)
	}
	if err == nil {
		m.sign()
	}
	return err
}

// signed begins the signatures of the message, if there are any to make, and
// returns where it is to be written. It is called again for a message that is written anew.
func (m *incoming) signed() io.Writer {
	m.signing = nil
	sign := m.session.server.rules.Load().Sign
	if sign == nil || m.domain == "" {
		return m.in
	}
	if m.signing = sign(m.domain); m.signing == nil {
		return m.in
	}
	m.in.Reserve()
	return io.MultiWriter(m.in, m.signing)
}

// sign makes the signatures of the whole message, and puts them into it.
func (m *incoming) sign() {
	if m.signing == nil {
		return
	}
	fields, err := m.signing.Close()
	if err != nil {
		m.session.server.log.Warn("a message goes out unsigned", "queue_id", m.in.ID().String(), "error", err)
	}
	m.fields = fields
	m.in.Front(fields)
}

// shorten writes the message anew where its lines are too long and may be changed.
// It reads what is in the store, so that it takes no memory.
func (m *incoming) shorten() error {
	log := m.session.server.log.With("queue_id", m.in.ID().String(), "client", m.session.conn.remote.String())
	r, err := m.in.Reader()
	if err != nil {
		return err
	}
	survey, err := sevenbit.Look(r)
	if err != nil {
		return err
	}
	if survey.Kept > 0 {
		log.Warn("lines over 998 octets stay as they are, and hosts may refuse them", "count", survey.Kept, "why", survey.Why)
	}
	if survey.Lines == survey.Kept {
		return nil
	}
	if r, err = m.in.Reader(); err != nil {
		return err
	}
	fresh, err := m.in.Again()
	if err != nil {
		return err
	}
	old := m.in
	m.in = fresh
	_, err = io.Copy(m.signed(), survey.Reader(r))
	old.Abort()
	log.Info("lines over 998 octets were folded or encoded", "count", survey.Lines-survey.Kept)
	return err
}

// copy writes the content to w as it comes in.
func (s *session) copy(w io.Writer) error {
	most := s.server.limits().MessageSize
	left := most
	for {
		part, err := s.conn.body()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if left -= int64(len(part)); left < 0 {
			return tooLarge(most)
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
}
