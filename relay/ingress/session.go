package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
)

const (
	// maxLine is the longest content line with long_lines = "pass".
	maxLine = 1 << 20
	// smtpLine is the longest line that RFC 5321, 4.5.3.1.6 allows.
	smtpLine = 998
	// maxRefusals is the number of refusals since the last accepted message after
	// which a session is ended.
	maxRefusals = 10
	// maxEnvelope bounds the size of a message's recipients in memory and in the
	// store, in octets. Each counts with the length of its texts and recipientSize.
	maxEnvelope   = 1 << 20
	recipientSize = 100
)

// session is the state of one SMTP session; its methods are called by go-smtp.
type session struct {
	server   *Server
	listener *listener
	conn     *conn
	smtp     *smtp.Conn
	helo     string // the name in the last EHLO or HELO
	client   string // as envelopes have it: helo with the client's address
	// described is the line of Received fields about the TLS session of.
	described struct {
		of   *tls.ConnectionState
		text string
	}

	user     User // authenticated by AUTH; no name: nobody
	attempts int  // of AUTH
	env      queue.Envelope
	// envelopeSize is the size of the recipients, counted as for maxEnvelope.
	envelopeSize int
	// refusedRecipients is how many of the message were refused.
	refusedRecipients int
	// drop is set where it is one of the recipients. It is not in env.
	drop *Drop
}

func (l *listener) newSession(c *smtp.Conn) (smtp.Session, error) {
	conn, ok := c.Conn().(*conn)
	if !ok {
		return nil, errors.New("internal error: not a connection of ours")
	}
	s := &session{server: l.server, listener: l, conn: conn, smtp: c}
	s.named(c.Hostname())
	return s, nil
}

// named sets the client's name.
func (s *session) named(hostname string) {
	if helo := clean(hostname); helo != s.helo || s.client == "" {
		s.helo, s.client = helo, fmt.Sprintf("%s [%s]", helo, s.conn.remote)
	}
}

// clean makes a name that a client gave safe for headers and logs.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>[]@,;:\"`, r) {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), 255)]
}

func reply(code int, class, subject, detail int, format string, args ...any) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: fmt.Sprintf(format, args...)}
}

// refuse logs a refusal. It counts a permanent one, and ends the session after too many
// of them. Temporary refusals are not counted, because a client that tries again later
// behaves correctly.
func (s *session) refuse(e *smtp.SMTPError) error {
	s.logRefusal(e)
	if e.Code < 500 {
		return e
	}
	if s.conn.refusedTooOften() {
		s.conn.fail(io.EOF)
		return reply(421, 4, 7, 0, "too many refused commands; goodbye (%s)", e.Message)
	}
	return e
}

func (s *session) logRefusal(e *smtp.SMTPError) {
	s.conn.outbox.logged = true
	status := fmt.Sprintf("%d.%d.%d", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
	s.conn.refusal(fmt.Sprintf("%d %s %s", e.Code, status, e.Message), status, "helo", s.helo)
}

// refuseRecipient is refuse for one of a message's recipients. As many of them as a message
// may have do not count: the others of a long list must get the message.
func (s *session) refuseRecipient(e *smtp.SMTPError) error {
	if s.refusedRecipients++; s.refusedRecipients > s.server.limits().Recipients {
		return s.refuse(e)
	}
	s.logRefusal(e)
	s.conn.uncounted = true
	return e
}

// Mail implements smtp.Session.
func (s *session) Mail(string, *smtp.MailOptions) error {
	rule := s.listener.rule()
	if rule.RequireTLS && s.conn.tls == nil {
		return s.refuse(reply(530, 5, 7, 0, "this listener takes mail over TLS only: use STARTTLS"))
	}
	if !s.renewUser() {
		return s.refuse(reply(421, 4, 7, 0, "the user or the password has changed since the log-in; log in again"))
	}
	if !s.mayRelay(rule) {
		return s.refuse(s.mayNotRelay(rule))
	}
	if s.conn.stranger { // allowed by a reload during the session
		s.server.recognize(s.conn)
	}
	a := &s.conn.args
	if a.err != nil {
		return s.refuse(reply(501, 5, 1, 7, "%s", short(a.err)))
	}
	var env queue.Envelope
	if e := s.mailParams(&env); e != nil {
		return s.refuse(e)
	}
	if env.RequireTLS && s.conn.tls == nil {
		return s.refuse(reply(530, 5, 7, 0, "REQUIRETLS is for TLS sessions only (RFC 8689, 4.1)"))
	}
	if a.path != "" {
		m, err := mailbox.Parse(a.path)
		if err != nil {
			return s.refuse(reply(501, 5, 1, 7, "%s", short(err)))
		}
		m, _ = s.server.rules.Load().Rewrite.replace(m)
		if m.NeedsUTF8() && !env.SMTPUTF8 {
			return s.refuse(reply(553, 5, 6, 7, "the sender's address needs SMTPUTF8"))
		}
		if !mayClaim(rule.SenderDomains, m.Domain) {
			return s.refuse(reply(550, 5, 7, 1, "senders of %s may not use this listener (sender_domains)", m.Domain))
		}
		if !mayClaim(s.user.SenderDomains, m.Domain) {
			return s.refuse(reply(550, 5, 7, 1, "the user %s may not send as %s (sender_domains)", clean(s.user.Name), m.Domain))
		}
		env.From = m.String()
	}
	size := a.size()
	if most := s.server.limits().MessageSize; size > most {
		return s.refuse(tooLarge(most))
	}
	if !s.server.withinRate(s.conn.remote, s.user.Name) {
		return s.refuse(reply(450, 4, 7, 1, "more than %d messages in a minute (limits.rate); try again later", s.server.limits().Rate))
	}
	if err := s.server.queue.Accepting(); err != nil {
		return s.unavailable(err)
	}
	if free := s.server.queue.Room(size); free != nil {
		return s.unavailable(free)
	}
	s.env, s.envelopeSize, s.refusedRecipients, s.drop = env, 0, 0, nil
	return nil
}

// renewUser brings the user up to date after a reload. It reports false where the log-in
// counts no more: whoever took a password must not send on in a session that is open.
func (s *session) renewUser() (ok bool) {
	current := s.server.rules.Load().Current
	if s.user.Name == "" || current == nil {
		return true
	}
	s.user, ok = current(s.user)
	return ok
}

// mayRelay reports whether the client has proved that it may send.
func (s *session) mayRelay(rule *Listener) bool {
	return s.user.Name != "" && rule.Auth || contains(rule.Allow, s.conn.remote) || s.conn.hasCertificate()
}

// mayNotRelay returns the reply to a client that has not proved that it may send.
func (s *session) mayNotRelay(rule *Listener) *smtp.SMTPError {
	a := s.conn.remote
	gateway := s.server.isGateway(a)
	login := rule.Auth && s.conn.tls == nil
	switch {
	case gateway && login:
		return reply(530, 5, 7, 0, "%s is the gateway of this machine or container, and stands for all whom it hands over; use STARTTLS and AUTH", a)
	case gateway:
		return reply(550, 5, 7, 1, "%s is the gateway of this machine or container, and stands for all whom it hands over: it may not send, and does not belong in allow", a)
	case login:
		return reply(530, 5, 7, 0, "%s is not in a network that may send here; use STARTTLS and AUTH", a)
	}
	return reply(550, 5, 7, 1, "%s may not send mail through this relay (its network is not in allow)", a)
}

// unavailable logs err and returns the reply while no mail can be accepted.
func (s *session) unavailable(err error) error {
	s.conn.outbox.logged = true
	e, status := reply(451, 4, 3, 0, "this relay cannot store mail now; try again later"), "4.3.0"
	switch {
	case errors.Is(err, store.ErrDiskFull):
		e, status = reply(452, 4, 3, 1, "the disk of this relay is full; try again later"), "4.3.1"
	case errors.Is(err, queue.ErrFull):
		e, status = reply(452, 4, 3, 1, "the queue of this relay is full; try again later"), "4.3.1"
	}
	s.server.log.Error("mail refused for now", append(s.conn.who(), "from", s.conn.sender, "status", status, "error", err)...)
	return e
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(string, *smtp.RcptOptions) error {
	if len(s.env.Recipients) >= s.server.limits().Recipients {
		return s.refuseRecipient(reply(452, 4, 5, 3, "too many recipients (%d at most); send the rest in another message", s.server.limits().Recipients))
	}
	a := &s.conn.args
	if a.err != nil {
		return s.refuseRecipient(reply(501, 5, 1, 3, "%s", short(a.err)))
	}
	path := a.path
	if strings.EqualFold(path, "postmaster") { // RFC 5321, 4.5.1
		path = s.server.rules.Load().Postmaster
	}
	m, err := mailbox.Parse(path)
	if err != nil {
		return s.refuseRecipient(reply(501, 5, 1, 3, "%s", short(err)))
	}
	rules, given := s.server.rules.Load(), m
	m, rewritten := rules.Rewrite.replace(m)
	if m.NeedsUTF8() && !s.env.SMTPUTF8 {
		return s.refuseRecipient(reply(553, 5, 6, 7, "the recipient's address needs SMTPUTF8"))
	}
	if rules.Blocked.has(given) || rules.Blocked.has(m) {
		return s.refuseRecipient(reply(550, 5, 7, 1, "nobody may write to <%s> through this relay (limits.blocked_recipients)", clipped(given.String())))
	}
	if drop := rules.Drop; drop.is(m) {
		if e := s.grow(recipientSize); e != nil {
			return s.refuseRecipient(e)
		}
		s.drop = drop
		return nil
	}
	r := queue.Recipient{Address: m.String()}
	r.Domain = r.Address[len(r.Address)-len(m.Domain):]
	if e := s.rcptParams(&r); e != nil {
		return s.refuseRecipient(e)
	}
	if rewritten && r.ORcpt == "" && !given.NeedsUTF8() {
		r.ORcpt = "rfc822;" + given.String() // RFC 3461, 4.2: notices name what the sender wrote
	}
	if e := s.grow(recipientSize + len(r.Address) + len(r.ORcpt)); e != nil {
		return s.refuseRecipient(e)
	}
	// A recipient stays in memory for long; its strings must not keep command lines alive.
	s.env.Recipients = append(s.env.Recipients, r)
	return nil
}

// grow counts the octets of a recipient, or returns the reply that refuses it. The drop
// counts each time it is named: go-smtp keeps a list of all recipients.
func (s *session) grow(octets int) *smtp.SMTPError {
	if s.envelopeSize+octets > maxEnvelope {
		return reply(452, 4, 5, 3, "the recipients take more than %d octets together; send the rest in another message", maxEnvelope)
	}
	s.envelopeSize += octets
	return nil
}

// Data implements smtp.Session. BDAT comes here too, see conn.
func (s *session) Data(io.Reader) error {
	env := s.env
	in, err := s.server.queue.Begin()
	if err != nil {
		return s.unavailable(err)
	}
	m := &incoming{session: s, env: &env, in: in, id: in.ID().String()}
	defer func() { m.in.Abort() }()
	err = m.read()
	in = m.in
	if s.conn.content.aborted {
		s.conn.content.aborted = false
		return reply(250, 2, 0, 0, "the message is forgotten")
	}
	if err != nil {
		return s.refuse(s.contentError(err))
	}
	if err := s.takeDropped(m); err != nil {
		return s.unavailable(err)
	}
	if len(env.Recipients) == 0 { // the drop was the only one
		s.conn.refusals, s.conn.fruitless = 0, 0
		return reply(250, 2, 0, 0, "received as %s", m.id)
	}
	env.ReceivedAt = s.server.now()
	env.Client = s.client
	env.Auth = s.user.Name
	if s.conn.tls != nil {
		env.TLS = tlsName(s.conn.tls)
	}
	if err := m.journal(); err != nil {
		return s.unavailable(err)
	}
	// The context is the server's, not the session's: if the client disconnects now,
	// the message is queued all the same.
	if err := in.Commit(s.server.ctx(), env); err != nil {
		return s.unavailable(err)
	}
	s.conn.refusals, s.conn.fruitless = 0, 0
	s.server.took(in, m.id, &env)
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "queued as " + m.id}
}

// took tells of a message that is in the queue. more are further attributes of its log
// line.
func (s *Server) took(in *queue.Incoming, id string, env *queue.Envelope, more ...slog.Attr) {
	if s.accepted != nil {
		env.ID, env.Size = in.ID(), in.Size()
		s.accepted(env)
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "accepted", append([]slog.Attr{
		slog.String("queue_id", id), slog.String("message_id", env.MessageID), slog.String("from", env.From), slog.Int("recipients", len(env.Recipients)),
		slog.Int64("size", in.Size()), slog.String("client", env.Client), slog.String("tls", env.TLS), slog.String("user", env.Auth),
	}, more...)...)
}

func tooLarge(most int64) *smtp.SMTPError {
	return reply(552, 5, 3, 4, "the message is larger than %d octets, the most that this relay takes", most)
}

// contentError returns the reply to a message that was not received completely.
func (s *session) contentError(err error) *smtp.SMTPError {
	if e, ok := errors.AsType[*smtp.SMTPError](err); ok {
		return e
	}
	switch {
	case errors.Is(err, errNUL):
		return reply(550, 5, 6, 0, "the message has a NUL in it")
	case errors.Is(err, errLongLine):
		return reply(550, 5, 6, 0, "%v", err)
	case errors.Is(err, errLongHeader):
		return reply(552, 5, 3, 4, "%v", err)
	case errors.Is(err, store.ErrDiskFull), errors.Is(err, store.ErrFailed), errors.Is(err, store.ErrUnknown), errors.Is(err, store.ErrAway), errors.Is(err, store.ErrClosed):
		e, _ := errors.AsType[*smtp.SMTPError](s.unavailable(err))
		return e
	}
	// The client disconnected or was too slow: what it still sends is not a command.
	s.conn.fail(io.EOF)
	return reply(451, 4, 4, 2, "the message was cut off: %s", short(err))
}

// maxSubject is the length of the longest Subject of an envelope, in octets.
const maxSubject = 250

// complete returns the header fields to add in front of the message, and sets the
// parts of env that depend on its header.
func (s *session) complete(h header, env *queue.Envelope, id string) ([]byte, error) {
	if hops := s.server.limits().Hops; h.received >= hops {
		return nil, reply(554, 5, 4, 6, "the message has passed %d servers: it runs in a loop", h.received)
	}
	env.TLSOptional = h.tlsRequiredNo && h.tlsRequiredAll == 1 && !env.RequireTLS && s.server.rules.Load().HonorTLSRequiredNo
	// Some clients declare SMTPUTF8 wherever it is offered. The flag stays only on mail
	// that needs it, because hosts without SMTPUTF8 refuse mail with the flag.
	env.SMTPUTF8 = env.SMTPUTF8 && (h.nonASCII || needsUTF8(env))
	now := s.server.now()
	add := s.received(make([]byte, 0, 512), env, id, now)
	env.MessageID = queue.CleanMessageID(h.messageID)
	if env.Subject = h.subject; len(h.subject) > maxSubject {
		env.Subject = strings.Clone(h.subject[:maxSubject])
	}
	if h.messageID == "" {
		env.MessageID = fmt.Sprintf("<%s@%s>", id, s.server.hostname)
		add = fmt.Appendf(add, "Message-ID: %s\r\n", env.MessageID)
	}
	if !h.hasDate {
		add = append(now.AppendFormat(append(add, "Date: "...), time.RFC1123Z), "\r\n"...)
	}
	return append(add, author(&h, env)...), nil
}

func needsUTF8(env *queue.Envelope) bool {
	return !isASCII([]byte(env.From)) || slices.ContainsFunc(env.Recipients, func(r queue.Recipient) bool { return !isASCII([]byte(r.Address)) })
}

// Reset implements smtp.Session. EHLO is a reset too, and may change the client's name.
func (s *session) Reset() {
	s.named(s.smtp.Hostname())
	s.conn.sender = ""
	s.forget()
}

func (s *session) forget() {
	s.env, s.drop = queue.Envelope{}, nil
}

// Logout implements smtp.Session.
func (s *session) Logout() error {
	s.forget()
	return nil
}

// short returns the text of err, cut to fit into a reply line.
func short(err error) string { return clipped(err.Error()) }

// clipped cuts a text to fit into a reply line.
func clipped(t string) string { return t[:min(len(t), 120)] }
