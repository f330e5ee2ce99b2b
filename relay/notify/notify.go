// Package notify writes delivery status notifications (RFC 3464, and RFC 6533 for
// internationalized mail): the message that tells a sender what became of his
// own.
//
// It decides to whom a notice is owed (RFC 3461) and what stands in it; when
// one is due is decided by those who deliver. What people read is in texts/.
package notify

import (
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// Action is what a notice says of a recipient (RFC 3464, 2.3.3).
type Action string

// The actions of this relay's notices. It never says "delivered": it hands
// mail to other servers only.
const (
	Failed  Action = "failed"
	Delayed Action = "delayed"
	Relayed Action = "relayed"
)

// Reporter writes notices in the name of one relay.
type Reporter struct {
	// Hostname is the Reporting-MTA and the domain of MAILER-DAEMON.
	Hostname string
	// Language is that of the text, "en" or "de"; nil and others: English. It is
	// asked for each notice.
	Language func() string
	// Expire is when a delayed message is given up, counted from its arrival.
	Expire func() time.Duration
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
	// Content opens the message that the notice is about; it may be nil.
	Content func(id queue.ID) (io.Reader, error)

	// Digest caps the notices to one sender; nil: nothing does.
	Digest *Digest

	told told
}

func (r *Reporter) now() time.Time {
	if r.Now != nil {
		return r.Now().UTC()
	}
	return time.Now().UTC()
}

// Failure is the notice that recipients of w were given up; ok is false where
// none is owed. states are by position in w.Recipients.
func (r *Reporter) Failure(w *queue.Claim, states []queue.RecipientState) (queue.NewMessage, bool) {
	return r.notice(Failed, &w.Envelope, entries(w, states, func(i int) bool { return states[i].State == queue.Bounced }), "")
}

// Delay is the notice that recipients of w are still being tried; ok is false
// where none is owed.
func (r *Reporter) Delay(w *queue.Claim, states []queue.RecipientState) (queue.NewMessage, bool) {
	return r.notice(Delayed, &w.Envelope, entries(w, states, func(i int) bool {
		return states[i].State == queue.Queued && !states[i].Delayed
	}), "")
}

// Success is the notice that recipients of w, for whom the sender asked for it,
// were handed to hosts that send no notices of their own; ok is false where
// none is owed. relayed says, by position in w.Recipients, whose host did not
// offer DSN: where one does, it has the sender's parameters, and the notice is
// its matter (RFC 3461, 5.2.2).
func (r *Reporter) Success(w *queue.Claim, states []queue.RecipientState, relayed []bool) (queue.NewMessage, bool) {
	return r.notice(Relayed, &w.Envelope, entries(w, states, func(i int) bool {
		return states[i].State == queue.Delivered && i < len(relayed) && relayed[i]
	}), "")
}

// Removed is the notice that the operator gave a message up; note, if any,
// is the reason given.
func (r *Reporter) Removed(m queue.Message, note string) (queue.NewMessage, bool) {
	var list []entry
	for i, s := range m.States {
		if s.State != queue.Queued {
			continue
		}
		s.Status, s.LastReply, s.ReasonCode = "5.7.0", "", ""
		s.LastError = s.Status + " the operator of this mail server gave the message up"
		if note != "" {
			s.LastError += ": " + note
		}
		list = append(list, entry{recipient: m.Recipients[i], state: s, key: textRemoved})
	}
	return r.notice(Failed, &m.Envelope, list, note)
}

// entry is one recipient of a notice.
type entry struct {
	recipient queue.Recipient
	state     queue.RecipientState
	key       string // of the texts
	// protection reports whether it waits for want of a protected connection.
	protection bool
	expired    bool // it was tried for as long as may be
	untried    bool // there was no attempt now: it waits with its domain
}

func entries(w *queue.Claim, states []queue.RecipientState, choose func(int) bool) (out []entry) {
	for i, r := range w.Envelope.Recipients {
		if !choose(i) {
			continue
		}
		e := entry{recipient: r, state: states[i], untried: w.Kind == queue.DelayNotice}
		e.key, e.protection = textKey(states[i].ReasonCode, states[i].Status)
		if e.expired = states[i].ReasonCode == failure.Expired.Code(); e.expired && i < len(w.States) {
			e.key, e.protection = textKey(w.States[i].ReasonCode, w.States[i].Status) // what it waited for all the time
			e.key = putOff(e.key)
		}
		out = append(out, e)
	}
	return out
}

func (r *Reporter) notice(action Action, env *queue.Envelope, list []entry, note string) (queue.NewMessage, bool) {
	// Nothing is ever sent to the null sender (RFC 5321, 4.5.5).
	if env.From == "" || env.Kind != queue.Mail {
		return queue.NewMessage{}, false
	}
	list = slices.DeleteFunc(list, func(e entry) bool { return !asked(e.recipient, action) })
	now := r.now()
	var also func(*store.Batch)
	if action == Delayed {
		list, also = r.told.untold(env.From, list, now)
	}
	if len(list) == 0 {
		return queue.NewMessage{}, false
	}
	to, err := mailbox.Parse(env.From)
	if err != nil {
		return queue.NewMessage{}, false // it was checked when the message came in
	}
	n := notice{reporter: r, action: action, env: env, entries: list, note: note, now: now}
	body := n.write()
	m := queue.NewMessage{
		Envelope: queue.Envelope{
			Kind: queue.Notice, From: "",
			Recipients: []queue.Recipient{{Address: env.From, Domain: to.Domain, Notify: []string{"NEVER"}}},
			Client:     r.Hostname + " (notice)",
			EightBit:   !isASCII(body),
			// The header has no other address than the sender's.
			SMTPUTF8: !isASCII([]byte(env.From)),
		},
		Body: body, Also: also,
	}
	if r.Digest != nil {
		r.Digest.cap(&n, &m)
	}
	return m, true
}

// asked says whether the sender wants to know (RFC 3461, 4.1): without NOTIFY of
// failures and delays, with it of what it lists.
func asked(rcpt queue.Recipient, action Action) bool {
	if len(rcpt.Notify) == 0 {
		return action != Relayed
	}
	want := map[Action]string{Failed: "FAILURE", Delayed: "DELAY", Relayed: "SUCCESS"}[action]
	return slices.ContainsFunc(rcpt.Notify, func(n string) bool { return strings.EqualFold(n, want) })
}
