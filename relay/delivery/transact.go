package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/stsrelay/stsrelay/internal/sevenbit"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// course is how an attempt goes on after a transaction.
type course uint8

const (
	// courseDone: its replies count.
	courseDone course = iota
	// courseRenew: only the session is over. Another one to the host is opened and
	// asked.
	courseRenew
	// courseMore: the host took some recipients, and more are waiting for the next
	// transaction.
	courseMore
)

// send makes a transaction and takes in its results. The failure is why the next host
// is asked for the recipients that have none; nil where the host has an answer.
func (a *attempt) send(ctx context.Context, h *hostTry, s *session) (course, *attemptError) {
	used := s.messages > 0
	s.messages++
	t := a.transaction(s)
	if a.unreadable() {
		return courseDone, nil
	}
	start := a.d.now()
	a.hold.waits(s.conn, silentEnvelope)
	out, err := s.client.Send(ctx, t)
	if errors.Is(err, errStopping) && !out.BodySent {
		a.end.cut = true
		return courseDone, nil
	}
	if !out.BodySent && a.unreadable() {
		return courseDone, nil
	}
	local := errors.Is(err, smtpclient.ErrTooLarge) || errors.Is(err, smtpclient.ErrNeedsSMTPUTF8)
	lost := err != nil && !local && !out.BodySent
	switch {
	case errors.Is(err, smtpclient.ErrChunking):
		a.d.pool.disableBDAT(s.key)
		return courseRenew, a.connectionFailure(s, err)
	case used && lost:
		return courseRenew, a.connectionFailure(s, err)
	case used && a.saysNothing(s, out):
		return courseRenew, &attemptError{reason: failure.Busy, host: s.host, domainWide: true, text: s.host + " takes no more on a session that was used before"}
	case lost && out.Mail.Code == 0: // the host saw nothing of the message
		return courseDone, a.connectionFailure(s, err)
	}
	more, f := a.take(h, s, out, err)
	switch {
	case out.Final.OK():
		a.end.capacity = h.limit
		a.d.pool.onSuccess(s.key, a.d.now().Sub(start))
	case !s.client.Usable():
		a.d.pool.onOverload(s.key) // it said 421, or went away
	}
	if more {
		return courseMore, f
	}
	return courseDone, f
}

// transaction is the message for the recipients that have no result yet.
func (a *attempt) transaction(s *session) smtpclient.Transaction {
	env := &a.w.Envelope
	t := smtpclient.Transaction{
		From: env.From, Size: env.Size, Body: a.w.Body(),
		Bit8: env.EightBit, SMTPUTF8: env.SMTPUTF8, RequireTLS: env.RequireTLS && s.evidence.OffersRequireTLS,
		EnvID: env.EnvID, Ret: env.Ret,
		Content: func() context.Context {
			a.hold.sends()
			a.w.Sending()
			return a.grace
		},
	}
	if _, ok := s.client.Extension("8BITMIME"); !ok {
		a.downgradeTo7Bit(&t)
	}
	for _, i := range a.recipients.open {
		r := env.Recipients[i]
		t.Recipients = append(t.Recipients, smtpclient.Recipient{Address: r.Address, Notify: r.Notify, ORcpt: r.ORcpt})
	}
	return t
}

// unreadable reports whether the store could not read the message. That is this
// relay's own fault and the same with every host: its recipients wait, and the
// message is held.
func (a *attempt) unreadable() bool {
	err := a.w.Unreadable()
	if err == nil {
		return false
	}
	f := &attemptError{reason: failure.Internal, text: "this relay cannot read the message from its disk, and keeps it for its administrator: " + err.Error()}
	a.recipients.failAll(f, a.record.tls)
	a.recipients.open, a.end.reached = nil, true // nothing is known of the host
	return true
}

// saysNothing reports whether a reply on a session that was used before is about
// that session alone, and nothing of the content was sent.
func (a *attempt) saysNothing(s *session, out smtpclient.Outcome) bool {
	if out.BodySent {
		return false
	}
	about := func(at step, r smtpclient.Reply) bool {
		return r.Code >= 400 && rule(at, r, situation{used: true, tls: s.evidence.StartTLS}).owner == ofSession
	}
	taken := false
	for _, r := range out.Recipients {
		if out.Mail.OK() && about(stepRcpt, r.Reply) {
			return true
		}
		taken = taken || r.Accepted
	}
	// DATA is refused wherever nobody was taken.
	return about(stepMail, out.Mail) || taken && about(stepData, out.Data)
}

// downgradeTo7Bit makes t fit for a host without 8BITMIME (RFC 6152, 3). What has
// 8-bit octets without saying so goes as it is.
func (a *attempt) downgradeTo7Bit(t *smtpclient.Transaction) {
	t.Bit8 = false
	if needed, err := sevenbit.Needed(a.w.Body()); err != nil || !needed {
		return
	}
	convert := func() io.Reader { return sevenbit.NewReader(a.w.Body()) }
	t.Body, t.Size = convert(), 0 // the size is not known before
	if a.settings.Resign == nil {
		return
	}
	signed, err := a.settings.Resign(convert)
	if err != nil {
		a.d.log.Warn("a message goes out with a signature that its new encoding has broken", "queue_id", a.w.Envelope.ID.String(), "domain", a.w.Domain, "error", err)
		return
	}
	t.Body = signed
}

// take gives the recipients their results. The host counts as reached once it
// has said anything about the message. It reports whether recipients are left for
// another transaction, which makes sense while the host takes some each time, and why
// the next host is asked for some, the last of them.
func (a *attempt) take(h *hostTry, s *session, out smtpclient.Outcome, err error) (more bool, last *attemptError) {
	progress := out.Final.OK() || out.BodySent && out.Final.Permanent()
	var rest []int
	for k, i := range a.recipients.open {
		f, owner := a.recipientResult(s, out, err, k)
		a.end.reached = a.end.reached || owner != ofHost || !f.domainWide
		switch {
		case f == nil:
			_, dsn := s.client.Extension("DSN")
			a.recipients.relayed[i] = !dsn
			a.recipients.states[i] = queue.RecipientState{State: queue.Delivered, LastReply: out.Final.String(), TLS: a.record.tls, Host: s.host}
		case owner == ofCount && progress:
			more = true
			rest = append(rest, i)
		case owner == ofHost:
			last = f
			rest = append(rest, i)
		case f.refusesUs() && !h.refusedOver.IsValid():
			if h.refusals == nil {
				h.refusals = make(map[int]*attemptError)
			}
			h.refusals[i] = f
			rest = append(rest, i)
		case owner == ofHostAlone:
			a.recipients.decline(i, f)
			rest = append(rest, i)
		default:
			a.recipients.fail(i, f, a.record.tls)
		}
	}
	a.recipients.open = rest
	return more, last
}

// recipientResult is what became of the k-th recipient of the transaction; nil is a
// delivery. Failures of the host send it to the next one.
func (a *attempt) recipientResult(s *session, out smtpclient.Outcome, err error, k int) (*attemptError, owner) {
	host := s.host
	switch {
	case errors.Is(err, smtpclient.ErrTooLarge):
		return &attemptError{permanent: true, elsewhere: true, reason: failure.Size, host: host, text: fmt.Sprintf("the message is too large for %s: %v", host, err)}, ofHostAlone
	case errors.Is(err, smtpclient.ErrNeedsSMTPUTF8):
		return &attemptError{permanent: true, elsewhere: true, reason: failure.Content, status: "6.7", host: host, text: fmt.Sprintf("the message needs SMTPUTF8, which %s does not offer", host)}, ofHostAlone
	}
	recipient := recipientReply(out, k)
	if out.Bye.Code != 0 && recipient.Code/100 <= 2 && out.Data.Code == 0 && out.Mail.OK() {
		recipient = out.Bye // it cut off those that it had taken, and those behind
	}
	// The first reply that refuses decides.
	for _, r := range []struct {
		at step
		smtpclient.Reply
	}{{stepMail, out.Mail}, {stepRcpt, recipient}, {stepData, out.Data}, {stepContent, out.Final}} {
		if r.Code >= 400 {
			l := rule(r.at, r.Reply, situation{tls: s.evidence.StartTLS})
			f := l.failure(host, r.Reply)
			if l.reason == failure.Handshake || l.reason == failure.TLSNone {
				f.text = fmt.Sprintf("%s takes mail over TLS only, and gave none (%s)", f.text, cmp.Or(s.evidence.Failure, "STARTTLS is not offered"))
			}
			return f, l.owner
		}
	}
	switch {
	case out.Final.OK() && recipient.OK():
		return nil, ofRecipient
	case out.Final.OK():
		return &attemptError{reason: failure.Recipient, status: "5.0", host: host, reply: recipient.String(),
			text: fmt.Sprintf("%s answered to the recipient with what is neither yes nor no: %s", host, recipient)}, ofRecipient
	case out.BodySent:
		return &attemptError{reason: failure.Unknown, host: host,
			text: fmt.Sprintf("%s did not answer after the whole message was sent (%v): it may have been delivered, and is sent again", host, err)}, ofTransaction
	}
	f := a.connectionFailure(s, err)
	f.domainWide = false // the host had begun to take it
	return f, ofHost
}

func recipientReply(out smtpclient.Outcome, k int) smtpclient.Reply {
	if k < len(out.Recipients) {
		return out.Recipients[k].Reply
	}
	return smtpclient.Reply{}
}

func (a *attempt) connectionFailure(s *session, err error) *attemptError {
	return &attemptError{reason: failure.Connect, status: "4.2", host: s.host, domainWide: true, text: fmt.Sprintf("the connection to %s [%s] was lost: %v", s.host, s.addr, err)}
}
