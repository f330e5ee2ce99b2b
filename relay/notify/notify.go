// Package notify writes delivery status notifications (RFC 3464, and RFC 6533 for
// internationalized mail): the message that tells a sender what became of
// their own.
//
// It decides who gets a notice (RFC 3461) and what it says. Package delivery decides
// when. The texts are in texts/.
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

// Action is what happened to a recipient (RFC 3464, 2.3.3).
type Action string

// The actions of this relay's notices. "delivered" is none of them: the relay passes
// mail on to other servers only.
const (
	Failed  Action = "failed"
	Delayed Action = "delayed"
	Relayed Action = "relayed"
)

// Reporter writes notices in the name of one relay.
type Reporter struct {
	// Hostname is the Reporting-MTA and the domain of MAILER-DAEMON.
	Hostname string
	// Language returns the language of the text, "en" or "de"; nil and others:
	// English. It is called for each notice.
	Language func() string
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
	// Content opens the message that the notice is about; it may be nil.
	Content func(id queue.ID) (io.Reader, error)

	// Digest limits the notices to one sender; nil: no limit.
	Digest *Digest

	suppressor suppressor
}

func (r *Reporter) now() time.Time {
	if r.Now != nil {
		return r.Now().UTC()
	}
	return time.Now().UTC()
}

// Failure is the notice that recipients of w were given up; ok reports whether the
// sender gets one. states are by position in w.Recipients.
func (r *Reporter) Failure(w *queue.Claim, states []queue.RecipientState) (queue.NewMessage, bool) {
	list := entries(w, states, func(i int) bool { return states[i].State == queue.Bounced })
	return r.notice(notice{action: Failed, env: &w.Envelope, entries: list})
}

// Delay is the notice that recipients of w are still being tried; ok reports whether the
// sender gets one.
func (r *Reporter) Delay(w *queue.Claim, states []queue.RecipientState) (queue.NewMessage, bool) {
	list := entries(w, states, func(i int) bool { return states[i].State == queue.Queued && !states[i].Delayed })
	return r.notice(notice{action: Delayed, env: &w.Envelope, entries: list, until: w.ExpiresAt.UTC()})
}

// Success is the notice that recipients of w, for whom the sender asked for it,
// were passed to hosts that send no notices of their own; ok reports whether the sender
// gets one. relayed reports, by position in w.Recipients, whether the host did not offer
// DSN. A host that offers it has the sender's parameters and sends the notice (RFC 3461,
// 5.2.2).
func (r *Reporter) Success(w *queue.Claim, states []queue.RecipientState, relayed []bool) (queue.NewMessage, bool) {
	list := entries(w, states, func(i int) bool {
		return states[i].State == queue.Delivered && i < len(relayed) && relayed[i] && asked(w.Envelope.Recipients[i], Relayed)
	})
	return r.notice(notice{action: Relayed, env: &w.Envelope, entries: list})
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
	return r.notice(notice{action: Failed, env: &m.Envelope, entries: list, note: note})
}

// entry is one recipient of a notice.
type entry struct {
	recipient queue.Recipient
	state     queue.RecipientState
	key       string // of the texts
	// protection reports whether the mail is held because there is no protected
	// connection.
	protection bool
	expired    bool // it was given up because of its age
	untried    bool // there was no attempt: the domain is in back-off
}

func entries(w *queue.Claim, states []queue.RecipientState, choose func(int) bool) (out []entry) {
	for i, r := range w.Envelope.Recipients {
		if !choose(i) {
			continue
		}
		e := entry{recipient: r, state: states[i], untried: w.Kind == queue.DelayNotice}
		e.key, e.protection = textKey(states[i].ReasonCode, states[i].Status)
		if e.expired = states[i].ReasonCode == failure.Expired.Code(); e.expired && i < len(w.States) {
			e.key, e.protection = textKey(w.States[i].ReasonCode, w.States[i].Status) // the reason for which it waited
		}
		if e.expired || states[i].State == queue.Queued {
			e.key = putOff(e.key)
		}
		out = append(out, e)
	}
	return out
}

// notice writes n, of which it sets the reporter and the time; ok reports whether the sender
// gets it.
func (r *Reporter) notice(n notice) (m queue.NewMessage, ok bool) {
	// Nothing is ever sent to the null sender (RFC 5321, 4.5.5).
	if n.env.From == "" || n.env.Kind != queue.Mail {
		return m, false
	}
	n.reporter, n.now = r, r.now()
	n.entries = slices.DeleteFunc(n.entries, func(e entry) bool { return !asked(e.recipient, n.action) })
	var also func(*store.Batch)
	if n.action == Delayed {
		n.entries, also = r.suppressor.filter(n.env.From, n.entries, n.now)
	}
	if len(n.entries) == 0 {
		return m, false
	}
	to, err := mailbox.Parse(n.env.From)
	if err != nil {
		return m, false // cannot be: it was checked when the message came in
	}
	body := n.write()
	m = queue.NewMessage{
		Envelope: queue.Envelope{
			Kind: queue.Notice, From: "",
			Recipients: []queue.Recipient{{Address: n.env.From, Domain: to.Domain, Notify: []string{"NEVER"}}},
			Client:     r.Hostname + " (notice)",
			EightBit:   !isASCII(body),
			// The header has no other address than the sender's.
			SMTPUTF8: !isASCII([]byte(n.env.From)),
		},
		Body: body, Also: also,
	}
	if r.Digest != nil {
		r.Digest.limit(&n, &m)
	}
	return m, true
}

// asked reports whether the sender wants a notice (RFC 3461, 4.1): without NOTIFY about
// failures and delays, with NOTIFY about the actions that it lists.
func asked(rcpt queue.Recipient, action Action) bool {
	if len(rcpt.Notify) == 0 {
		return action != Relayed
	}
	want := map[Action]string{Failed: "FAILURE", Delayed: "DELAY", Relayed: "SUCCESS"}[action]
	return slices.ContainsFunc(rcpt.Notify, func(n string) bool { return strings.EqualFold(n, want) })
}
