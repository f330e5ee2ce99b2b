package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stsrelay/stsrelay/internal/sevenbit"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/reason"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// accept makes refusals the results of the recipients that still have none.
func (a *attempt) accept(refusals map[int]*failure) {
	a.open = slices.DeleteFunc(a.open, func(i int) bool {
		f := refusals[i]
		if f == nil {
			return false
		}
		a.results[i] = f.state(a.w.States[i], a.tls)
		return true
	})
	a.refusals = nil
}

// send makes the transaction and takes in its results. It reports whether the
// session turned out to be dead before the host saw anything of the message.
func (a *attempt) send(ctx context.Context, s *session) (gone bool) {
	a.last = nil
	env := &a.w.Envelope
	t := smtpclient.Transaction{
		From: env.From, Size: env.Size, Body: a.w.Body(),
		Bit8: env.EightBit, SMTPUTF8: env.SMTPUTF8, RequireTLS: env.RequireTLS && s.evidence.OffersRequireTLS,
		EnvID: env.EnvID, Ret: env.Ret,
	}
	if _, ok := s.client.Extension("8BITMIME"); !ok {
		a.inSevenBits(&t)
	}
	for _, i := range a.open {
		r := env.Recipients[i]
		t.Recipients = append(t.Recipients, smtpclient.Recipient{Address: r.Address, Notify: r.Notify, ORcpt: r.ORcpt})
	}
	start := a.d.now()
	out, err := s.client.Send(ctx, t)
	defer func() { a.d.pool.put(s, a.d.now()) }()
	if errors.Is(err, smtpclient.ErrChunking) {
		a.d.pool.distrust(s.key)
		a.last, a.fresh = a.connectionFailure(s, err), false
		return true
	}
	if err != nil && out.Mail.Code == 0 && !out.BodySent && !errors.Is(err, smtpclient.ErrTooLarge) && !errors.Is(err, smtpclient.ErrNeedsSMTPUTF8) {
		a.last = a.connectionFailure(s, err)
		return true
	}
	if bye, ok := goodbye(out); ok && !a.fresh {
		a.last = replyFailure(reason.Busy, s.host, bye)
		return true // it has had enough of this session (RFC 5321, 3.8)
	}
	a.take(s, out, err)
	switch {
	case out.Final.Code/100 == 2:
		a.room = s.client.Depth() * a.limit
		a.d.pool.took(s.key, a.d.now().Sub(start))
	case !s.client.Usable():
		a.d.pool.strained(s.key) // it said 421, or went away
	}
	return false
}

// goodbye is the 421 that a host said before it saw more of a message than its
// addresses.
func goodbye(out smtpclient.Outcome) (smtpclient.Reply, bool) {
	if out.Mail.Code == 421 {
		return out.Mail, true
	}
	i := slices.IndexFunc(out.Recipients, func(r smtpclient.RecipientOutcome) bool { return r.Reply.Code == 421 })
	if i < 0 || out.BodySent {
		return smtpclient.Reply{}, false
	}
	return out.Recipients[i].Reply, true
}

// inSevenBits makes t fit for a host without 8BITMIME (RFC 6152, 3). What has
// 8-bit octets without saying so goes as it is.
func (a *attempt) inSevenBits(t *smtpclient.Transaction) {
	t.Bit8 = false
	if needed, err := sevenbit.Needed(a.w.Body()); err == nil && needed {
		t.Body, t.Size = sevenbit.NewReader(t.Body), 0 // the size is not known before
	}
}

// take gives the recipients their results. The host counts as reached once it
// has said anything about the message; 421 before that is about itself.
func (a *attempt) take(s *session, out smtpclient.Outcome, err error) {
	var rest []int
	for k, i := range a.open {
		f, done := a.recipientResult(s, out, err, k)
		a.reached = a.reached || done || f.why != reason.Busy || !f.domainWide
		switch {
		case done && f == nil:
			_, dsn := s.client.Extension("DSN")
			a.relayed[i] = !dsn
			a.results[i] = queue.RecipientState{State: queue.Delivered, LastReply: out.Final.String(), TLS: a.tls, Host: s.host}
		case done && f.refusesUs() && !a.refusedOver.IsValid():
			if a.refusals == nil {
				a.refusals = make(map[int]*failure)
			}
			a.refusals[i] = f
			rest = append(rest, i)
		case done:
			a.results[i] = f.state(a.w.States[i], a.tls)
		default:
			a.last = f
			rest = append(rest, i)
		}
	}
	a.open = rest
}

// recipientResult is what became of the k-th recipient of the transaction: f
// nil is a delivery; done false sends it to the next host.
func (a *attempt) recipientResult(s *session, out smtpclient.Outcome, err error, k int) (f *failure, done bool) {
	host := s.host
	switch {
	case errors.Is(err, smtpclient.ErrTooLarge):
		return &failure{permanent: true, status: "5.3.4", why: reason.Size, host: host, text: fmt.Sprintf("the message is too large for %s: %v", host, err)}, true
	case errors.Is(err, smtpclient.ErrNeedsSMTPUTF8):
		return &failure{permanent: true, status: "5.6.7", why: reason.Content, host: host, text: fmt.Sprintf("the message needs SMTPUTF8, which %s does not offer", host)}, true
	}
	// The first reply that refuses decides; 421 anywhere is the host's trouble,
	// not the recipient's. Behind MAIL and RCPT it may be this message that the
	// host cannot take, and the others need not wait for it.
	for _, step := range []struct {
		why    string
		r      smtpclient.Reply
		before bool // before the host has seen of the message more than its addresses
	}{{reason.Content, out.Mail, true}, {reason.Recipient, recipientReply(out, k), true}, {reason.Content, out.Data, false}, {reason.Content, out.Final, false}} {
		switch {
		case step.r.Code == 421:
			f := replyFailure(reason.Busy, host, step.r)
			f.domainWide = step.before
			return f, false
		case step.r.Code >= 400:
			return replyFailure(step.why, host, step.r), true
		}
	}
	if out.Final.Code/100 == 2 && k < len(out.Recipients) && out.Recipients[k].Accepted {
		return nil, true
	}
	if out.Final.Code/100 == 2 {
		return &failure{status: "4.5.0", why: reason.Recipient, host: host, reply: recipientReply(out, k).String(),
			text: fmt.Sprintf("%s answered to the recipient with what is neither yes nor no: %s", host, recipientReply(out, k))}, true
	}
	if out.BodySent {
		return &failure{status: "4.4.2", why: reason.Unknown, host: host,
			text: fmt.Sprintf("%s did not answer after the whole message was sent (%v): it may have been delivered, and is sent again", host, err)}, true
	}
	return a.connectionFailure(s, err), false
}

func recipientReply(out smtpclient.Outcome, k int) smtpclient.Reply {
	if k < len(out.Recipients) {
		return out.Recipients[k].Reply
	}
	return smtpclient.Reply{}
}

func (a *attempt) connectionFailure(s *session, err error) *failure {
	return &failure{status: "4.4.2", why: reason.Connect, host: s.host, domainWide: true, text: fmt.Sprintf("the connection to %s [%s] was lost: %v", s.host, s.addr, err)}
}
