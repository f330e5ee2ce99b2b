package delivery

import (
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// EventKind is what an Event is about.
type EventKind uint8

const (
	// EventAttempt: an attempt was made, and recipients have results.
	EventAttempt EventKind = iota
	// EventNoAttempt: the claim was given back without a result, perhaps after sessions.
	// Notices of Changes are not queued.
	EventNoAttempt
	// EventDelay: there was no attempt. The message waits with its domain, and its
	// sender is to be notified of that. Changes are its notices alone.
	EventDelay
)

// Event is what became of a claim. It is the only way in which that leaves this
// package: log, metrics, counts for TLS reports and notices are readers of it. There is
// one for each claim. Readers do not change it.
type Event struct {
	Kind EventKind
	// Claim has the message and its recipients, and how each of them stood before. Only
	// its fields may be read: once the result is durable, the message may be gone.
	Claim *queue.Claim
	// QueueID is the message's ID as a text.
	QueueID string
	// At is the end of the attempt, Took its duration.
	At   time.Time
	Took time.Duration
	// Late reports whether the message is older than Settings.DelayNotice.
	Late bool
	// Unreadable is why the message could not be read from the store, nil where it
	// could. It is held then, and only the operator is notified.
	Unreadable error
	// Policy is the result of the lookup of the MTA-STS policy.
	Policy sts.Result
	// States is the result of each recipient, by position in Claim.Recipients. State ""
	// means that the recipient was not tried.
	States []queue.RecipientState
	// Relayed reports, by the same position, whether the host that took the recipient
	// does not know DSN (RFC 3461).
	Relayed []bool
	// Sessions are those of the attempt in their order: opened, used again, or not
	// to be opened at all. The last one led to the results.
	Sessions []Session
	// TLS is what the last session proved, in words, and Protection the same in one
	// word; "" where there was none.
	TLS        string
	Protection security.Protection

	contacts []contact
	results  []Result // of group, once the attempt has ended
}

// Session is one session of an attempt with a host.
type Session struct {
	Requirement *security.Requirement
	// Evidence is what the session proved; nil where none was begun, because the
	// requirement did not admit the host.
	Evidence *security.Evidence
	// Verdicts are what TLS reports count (RFC 8460, 4.3); nil where it was counted
	// before, or is not counted.
	Verdicts []security.Verdict
	// PolicyFailure is why an announced MTA-STS policy could not be fetched; nil where
	// that did not fail. An older policy may have been applied.
	PolicyFailure *sts.FetchError
	// Opened reports whether this attempt opened it, else it was open already. Usable
	// reports whether the message could go over it.
	Opened, Usable bool
	// LocalIP, RemoteIP and Helo describe it; "" where none was begun.
	LocalIP, RemoteIP, Helo string
}

// Changes are what a reader of an Event adds to the commit of its result.
type Changes struct {
	// Notices are queued.
	Notices []queue.NewMessage
	// Delayed reports whether a notice of a delay is among them: there is no second one
	// about these recipients.
	Delayed bool
	// Batch adds other changes; nil: there are none.
	Batch func(*store.Batch)
}

// Readers read the events of attempts. Each is called once for an event, in the order of
// the fields, and from many goroutines.
type Readers struct {
	// Commit returns what belongs into the commit of the result.
	Commit []func(*Event) Changes
	// Ended is called before the commit.
	Ended []func(*Event)
	// Durable is called for an EventAttempt when its result cannot be lost any more. It
	// must not wait for anything.
	Durable []func(*Event)
}

// changes returns the changes of all readers.
func (r *Readers) changes(e *Event) (all Changes) {
	for _, read := range r.Commit {
		c := read(e)
		all.Notices = append(all.Notices, c.Notices...)
		all.Delayed = all.Delayed || c.Delayed
		all.Batch = both(all.Batch, c.Batch)
	}
	return all
}

// both returns the changes of first and then, either of which may be nil.
func both(first, then func(*store.Batch)) func(*store.Batch) {
	switch {
	case first == nil:
		return then
	case then == nil:
		return first
	}
	return func(b *store.Batch) {
		first(b)
		then(b)
	}
}

func (r *Readers) ended(e *Event) {
	e.results = e.group()
	for _, read := range r.Ended {
		read(e)
	}
}

// durable returns what the queue calls when the result is durable, nil without such
// readers.
func (r *Readers) durable(e *Event) func() {
	if len(r.Durable) == 0 {
		return nil
	}
	return func() {
		for _, read := range r.Durable {
			read(e)
		}
	}
}

// contact is one address of a host that an attempt has contacted.
type contact struct{ host, ip string }

// ip is the address at which a host was contacted last, "" where it was not.
func (e *Event) ip(host string) string {
	for i := len(e.contacts) - 1; i >= 0; i-- {
		if e.contacts[i].host == host {
			return e.contacts[i].ip
		}
	}
	return ""
}

// Result is the result that recipients have in common.
type Result struct {
	// To are their addresses.
	To []string
	// Verdict is "delivered", "deferred" or "bounced".
	Verdict string
	// Reply is the host's SMTP reply, Status the enhanced status code (RFC 3463), Code the
	// code of the reason (package failure) and Text the reason in words.
	Reply, Status, Code, Text string
	// Host and IP are those of the host that decided; "" where none did.
	Host, IP string
}

// Results returns the results of the recipients that were tried, equal ones as one. They
// must not be changed.
func (e *Event) Results() []Result {
	if e.results != nil {
		return e.results
	}
	return e.group()
}

// group makes the results.
func (e *Event) group() (all []Result) {
	env := &e.Claim.Envelope
next:
	for i, r := range e.States {
		if r.State == "" {
			continue
		}
		verdict := verdictOf(r.State)
		for k := range all {
			if same := &all[k]; same.Verdict == verdict && same.Reply == r.LastReply && same.Code == r.ReasonCode && same.Text == r.LastError && same.Host == r.Host {
				same.To = append(same.To, env.Recipients[i].Address)
				continue next
			}
		}
		all = append(all, Result{To: []string{env.Recipients[i].Address}, Verdict: verdict, Reply: r.LastReply, Status: r.Status, Code: r.ReasonCode, Text: r.LastError, Host: r.Host, IP: e.ip(r.Host)})
	}
	return all
}

// Verdict is that of the recipients that were tried, "mixed" where they differ, "" where
// none was tried.
func (e *Event) Verdict() (verdict string) {
	for _, r := range e.States {
		if r.State == "" {
			continue
		}
		switch v := verdictOf(r.State); verdict {
		case "", v:
			verdict = v
		default:
			return "mixed"
		}
	}
	return verdict
}

// verdictOf is the word for the state of a recipient after an attempt.
func verdictOf(s queue.State) string {
	if s == queue.Queued {
		return "deferred"
	}
	return string(s)
}

// Session returns the session that was used with the host of a result, nil where there
// was none.
func (e *Event) Session(host string) *Session {
	for i := len(e.Sessions) - 1; i >= 0; i-- {
		if s := &e.Sessions[i]; s.Evidence != nil && s.Requirement.Host == host {
			return s
		}
	}
	return nil
}
