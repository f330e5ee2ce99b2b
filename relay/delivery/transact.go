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

// transactionResult is what one transaction came to.
type transactionResult struct {
	course course
	// failure is why the next host is asked about the recipients that have no result; nil
	// where this host has decided about all.
	failure *attemptError
	// verdicts are by position in recipients.open; none where the host has said nothing
	// about the message.
	verdicts []verdict
	// accepted reports whether the host took the message for some recipients, reply is
	// its reply to the content, and relayed reports whether it does not know DSN (RFC 3461).
	accepted, relayed bool
	reply             string
	// reached reports whether the host has said anything about the message.
	reached bool
	// capacity is how many sessions the host may have, where it took the message.
	capacity int
	// cut reports whether the stop of the relay has cut off the transaction before its
	// content was sent as a whole.
	cut bool
	// unreadable is the failure of all recipients where the store could not read the
	// message.
	unreadable *attemptError
}

// verdict is what a transaction came to for one recipient.
type verdict struct {
	failure *attemptError // nil: the host took it
	owner   owner         // of the failure
}

// send makes a transaction for the recipients that have no result.
func (a *attempt) send(ctx context.Context, h *hostTry, s *session) transactionResult {
	used := s.messages > 0
	s.messages++
	t := a.transaction(s)
	if f := a.unreadable(); f != nil {
		return transactionResult{unreadable: f}
	}
	start := a.d.now()
	a.hold.waits(s.conn, silentEnvelope)
	out, err := s.client.Send(ctx, t)
	if (errors.Is(err, errStopping) || errors.Is(err, errNotHeld)) && !out.BodySent {
		return transactionResult{cut: true}
	}
	if f := a.unreadable(); f != nil && !out.BodySent {
		return transactionResult{unreadable: f}
	}
	local := errors.Is(err, smtpclient.ErrTooLarge) || errors.Is(err, smtpclient.ErrNeedsSMTPUTF8)
	lost := err != nil && !local && !out.BodySent
	switch {
	case errors.Is(err, smtpclient.ErrChunking):
		a.d.pool.disableBDAT(s.key)
		return transactionResult{course: courseRenew, failure: connectionFailure(s, err)}
	case used && lost:
		return transactionResult{course: courseRenew, failure: connectionFailure(s, err)}
	case used && saysNothing(s, out):
		a.d.pool.onBusy(s.key)
		return transactionResult{course: courseRenew, failure: &attemptError{reason: failure.Busy, host: s.host, domainWide: true, text: s.host + " takes no more on a session that was used before"}}
	case lost && out.Mail.Code == 0: // the host saw nothing of the message
		return transactionResult{failure: connectionFailure(s, err)}
	}
	switch {
	case out.Final.OK():
		a.d.pool.onSuccess(s.key, a.d.now().Sub(start))
	case !s.client.Usable():
		a.d.pool.onOverload(s.key) // it said 421, or went away
	case out.Mail.Code/100 == 4 || out.Data.Code/100 == 4 || out.Final.Code/100 == 4:
		a.d.pool.onBusy(s.key)
	}
	r := judge(s, out, err, len(t.Recipients))
	if r.accepted {
		r.capacity = a.d.pool.allowed(s.key, h.limit)
	}
	_, dsn := s.client.Extension("DSN")
	r.relayed = !dsn
	return r
}

// transaction is the message for the recipients that have no result yet.
func (a *attempt) transaction(s *session) smtpclient.Transaction {
	env := &a.claim.Envelope
	t := smtpclient.Transaction{
		From: env.From, Size: env.Size, Body: a.claim.Body(), Recipients: a.recipient[:0],
		Bit8: env.EightBit, SMTPUTF8: env.SMTPUTF8, RequireTLS: env.RequireTLS && s.evidence.OffersRequireTLS,
		EnvID: env.EnvID, Ret: env.Ret,
		Content: func() context.Context {
			a.hold.sends()
			a.claim.Sending()
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
	if a.d.holds != nil {
		t.Body = &heldBody{body: t.Body, left: t.Size, holds: a.d.holds}
	}
	t.Body = content{t.Body, &a.hold}
	return t
}

// unreadable is the failure where the store could not read the message, nil where it
// could. That is this relay's own fault and the same with every host: the recipients
// wait, and the message is held.
func (a *attempt) unreadable() *attemptError {
	err := a.claim.Unreadable()
	if err == nil {
		return nil
	}
	return &attemptError{reason: failure.Internal, text: "this relay cannot read the message from its disk, and keeps it for its administrator: " + err.Error()}
}

// saysNothing reports whether a reply on a session that was used before is about
// that session alone, and nothing of the content was sent.
func saysNothing(s *session, out smtpclient.Outcome) bool {
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
	if needed, err := sevenbit.Needed(a.claim.Body()); err != nil || !needed {
		return
	}
	convert := func() io.Reader { return sevenbit.NewReader(a.claim.Body()) }
	t.Body, t.Size = convert(), 0 // the size is not known before
	if a.settings.Resign == nil {
		return
	}
	signed, err := a.settings.Resign(convert)
	if err != nil {
		a.d.log.Warn("a message goes out with a signature that its new encoding has broken", "queue_id", a.claim.Envelope.ID.String(), "domain", a.claim.Domain, "error", err)
		return
	}
	t.Body = signed
}

// judge returns what a transaction with n recipients came to. Recipients that are left
// for another transaction are tried again as long as the host takes some each time.
func judge(s *session, out smtpclient.Outcome, err error, n int) transactionResult {
	r := transactionResult{verdicts: make([]verdict, n), accepted: out.Final.OK()}
	if r.accepted {
		r.reply = out.Final.String()
	}
	progress := out.Final.OK() || out.BodySent && out.Final.Permanent()
	for k := range r.verdicts {
		f, owner := recipientFailure(s, out, err, k)
		r.reached = r.reached || owner != ofHost || !f.domainWide
		switch {
		case owner == ofHost:
			r.failure = f
		case owner == ofCount && progress:
			r.course = courseMore
		case owner == ofCount:
			owner = ofRecipient // the next transaction would end like this one
		}
		r.verdicts[k] = verdict{f, owner}
	}
	return r
}

// fold brings the result of a transaction into the attempt: recipients get their results,
// or stay open for another transaction or the next host.
func (a *attempt) fold(h *hostTry, s *session, r transactionResult) {
	to := &a.recipients
	a.end.cut = a.end.cut || r.cut
	a.end.reached = a.end.reached || r.reached
	if r.accepted {
		a.end.capacity = r.capacity
	}
	if r.unreadable != nil {
		to.failAll(r.unreadable, a.record.tls)
		to.open, a.end.reached = nil, true // nothing is known of the host
	}
	if len(r.verdicts) == 0 {
		return
	}
	rest := to.open[:0]
	for k, i := range to.open {
		switch f := r.verdicts[k].failure; {
		case f == nil:
			to.relayed[i] = r.relayed
			to.states[i] = queue.RecipientState{State: queue.Delivered, LastReply: r.reply, TLS: a.record.tls, Host: s.host}
			continue
		case r.verdicts[k].owner == ofCount, r.verdicts[k].owner == ofHost:
		case f.refusesUs() && !h.refusedOver.IsValid():
			h.refuse(i, f)
		case r.verdicts[k].owner == ofHostAlone:
			to.decline(i, f)
		default:
			to.fail(i, f, a.record.tls)
			continue
		}
		rest = append(rest, i)
	}
	to.open = rest
}

// recipientFailure is why the k-th recipient of the transaction was not taken, nil where
// it was.
func recipientFailure(s *session, out smtpclient.Outcome, err error, k int) (*attemptError, owner) {
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
				f.text = fmt.Sprintf("%s takes mail over TLS only, and gave none (%s)", f.text, cmp.Or(s.evidence.Failure.String(), "STARTTLS is not offered"))
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
	f := connectionFailure(s, err)
	f.domainWide = false // the host had begun to take it
	return f, ofHost
}

func recipientReply(out smtpclient.Outcome, k int) smtpclient.Reply {
	if k < len(out.Recipients) {
		return out.Recipients[k].Reply
	}
	return smtpclient.Reply{}
}

func connectionFailure(s *session, err error) *attemptError {
	return &attemptError{reason: failure.Connect, status: "4.2", host: s.host, domainWide: true, text: fmt.Sprintf("the connection to %s [%s] was lost: %v", s.host, s.addr, err)}
}
