package delivery

import (
	"net/netip"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// EventKind says what an Event tells of.
type EventKind uint8

const (
	// EventAttempt: an attempt was made, and recipients have results.
	EventAttempt EventKind = iota
	// EventNoAttempt: the claim was given back without a result. Sessions may have
	// been made.
	EventNoAttempt
	// EventDelay: there was no attempt, and the sender is to be told that the
	// message waits with its domain.
	EventDelay
)

// Event is what became of a claim. It is the only way in which that leaves this
// package: log, metrics, counts for TLS reports and notices read it. Nobody changes
// it but in Options.Commit.
type Event struct {
	Kind EventKind
	// Claim has the message and its recipients, and how each of them stood before. Only
	// its fields may be read: once the result is durable, the message may be gone.
	Claim *queue.Claim
	// At is the end of the attempt, Took how long it was.
	At   time.Time
	Took time.Duration
	// Late reports whether the message is older than Settings.DelayNotice.
	Late bool
	// Unreadable is why the message could not be read from the store, nil where it
	// could. It is held then, and nobody is told but the operator.
	Unreadable error
	// Policy is what became of the lookup of the MTA-STS policy.
	Policy sts.Result
	// States has what became of each recipient, by position in Claim.Recipients.
	// State "": it was not tried.
	States []queue.RecipientState
	// Relayed reports, by the same position, whether a host took the recipient that
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
	// PolicyFailure is why an MTA-STS policy that is announced could not be had, beside
	// which an older one may have been applied; nil: there was none.
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
	// Delayed reports whether a notice of a delay is among them: its recipients are
	// not told again.
	Delayed bool
	// Batch adds other changes; nil: there are none.
	Batch func(*store.Batch)
}

// Readers read the events of attempts. They are called from many goroutines.
type Readers struct {
	// Commit returns what belongs into the commit of the result.
	Commit []func(*Event) Changes
	// Ended is told of an event before its commit.
	Ended []func(*Event)
	// Durable is told of an EventAttempt once its result cannot be lost any more.
	Durable []func(*Event)
}

// changes asks all readers, and joins what they say.
func (r *Readers) changes(e *Event) (all Changes) {
	var batches []func(*store.Batch)
	for _, read := range r.Commit {
		c := read(e)
		all.Notices = append(all.Notices, c.Notices...)
		all.Delayed = all.Delayed || c.Delayed
		if c.Batch != nil {
			batches = append(batches, c.Batch)
		}
	}
	switch len(batches) {
	case 0:
	case 1:
		all.Batch = batches[0]
	default:
		all.Batch = func(b *store.Batch) {
			for _, add := range batches {
				add(b)
			}
		}
	}
	return all
}

func (r *Readers) ended(e *Event) {
	for _, read := range r.Ended {
		read(e)
	}
}

// durable returns what the queue calls when the result is durable, nil where nobody
// wants to know.
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

// contact is a host that an attempt has contacted, and where.
type contact struct {
	host string
	addr netip.Addr
}

// ip is where a host was contacted last, "" where it was not.
func (e *Event) ip(host string) string {
	for i := len(e.contacts) - 1; i >= 0; i-- {
		if e.contacts[i].host == host {
			return e.contacts[i].addr.String()
		}
	}
	return ""
}

// Result is what happened to recipients alike.
type Result struct {
	// To are their addresses.
	To []string
	// Verdict is "delivered", "deferred" or "bounced".
	Verdict string
	// Reply is what the host said, Status the enhanced status code, Code that of the
	// reason and Text the same in words.
	Reply, Status, Code, Text string
	// Host and IP are of the host that decided; "" where none did.
	Host, IP string
}

// Results returns the recipients that were tried, those together that ended alike.
func (e *Event) Results() (all []Result) {
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

// Verdict is the one of all recipients that were tried, "mixed" where they differ.
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

// verdictOf is the word for what an attempt made of a recipient.
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
