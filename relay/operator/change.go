package operator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/history"
)

// Action is a change of messages in the queue.
type Action string

// The actions.
const (
	Retry   Action = "retry"   // due now; held messages stay held
	Hold    Action = "hold"    // not tried before a release
	Release Action = "release" // held no more, and due now
	Remove  Action = "remove"  // into the trash; nobody is told
	Bounce  Action = "bounce"  // given up; the senders are told
)

// Selection names the messages of a listing or a change: IDs, or a filter, or all.
type Selection struct {
	IDs       []string `json:"ids,omitempty"`
	Domain    string   `json:"domain,omitempty"`
	From      string   `json:"from,omitempty"`
	To        string   `json:"to,omitempty"`
	State     string   `json:"state,omitempty"`
	OlderThan string   `json:"older_than,omitempty"` // "2h"
	// Why is the code of the reason for which they wait.
	Why string `json:"why,omitempty"`
	All bool   `json:"all,omitempty"`
	// Reason is why messages are held or bounced.
	Reason string `json:"reason,omitempty"`
	// DryRun counts what remove or bounce would affect, and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// attrs returns what is set of a selection, for the log.
func (s *Selection) attrs() (attrs []slog.Attr) {
	if len(s.IDs) > 0 {
		attrs = append(attrs, slog.Any("ids", s.IDs))
	}
	for _, a := range []slog.Attr{
		slog.String("domain", s.Domain), slog.String("from", s.From), slog.String("to", s.To), slog.String("state", s.State),
		slog.String("older_than", s.OlderThan), slog.String("why", s.Why), slog.String("reason", s.Reason),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if s.All {
		attrs = append(attrs, slog.Bool("all", true))
	}
	return attrs
}

// filter returns the selection as the queue takes it, without its IDs.
func (s *Selection) filter() (queue.Filter, error) {
	f := queue.Filter{From: s.From, To: s.To, State: queue.State(s.State)}
	if s.Domain != "" {
		domain, err := mailbox.ParseName(s.Domain)
		if err != nil {
			return f, err
		}
		f.Domain = domain
	}
	if s.OlderThan != "" {
		d, err := time.ParseDuration(s.OlderThan)
		if err != nil || d < 0 { // a negative one would select all
			return f, phrase.Errorf("older_than %q is not a time such as 2h", s.OlderThan)
		}
		f.OlderThan = d
	}
	if !slices.Contains([]queue.State{"", queue.Queued, queue.Active, queue.Held}, f.State) {
		return f, phrase.Errorf("state %q is not queued, active or held", s.State)
	}
	if len(s.IDs) == 0 && !s.All && f.Domain == "" && f.From == "" && f.To == "" && f.State == "" && f.OlderThan == 0 && s.Why == "" {
		return f, phrase.Errorf("say which messages: IDs, a filter, or all")
	}
	return f, nil
}

// Affected is the answer to a change.
type Affected struct {
	Affected int `json:"touched"`
	// Missing are the IDs that are not in the queue.
	Missing []string `json:"missing,omitempty"`
	// Ambiguous are prefixes of more than one ID.
	Ambiguous []string `json:"ambiguous,omitempty"`
	// UndoSeconds is for how long a bounce can be undone before its notice is sent.
	UndoSeconds int `json:"undo_seconds,omitempty"`
	// Unreached are the queues of other relays where nothing was changed, or nobody knows,
	// each with the reason.
	Unreached []string `json:"unreached,omitempty"`
}

// Change does an action to the selected messages, in a fleet to those of all relays. An ID
// that begins like those of several messages is ambiguous also where they are in the queues
// of different relays.
func (o *Operator) Change(ctx context.Context, actor Actor, action Action, sel Selection) (Affected, error) {
	if o.o.Fleet == nil {
		return o.change(ctx, actor, action, sel)
	}
	if _, err := sel.filter(); err != nil {
		return Affected{}, failed(invalid, err)
	}
	shared, err := o.sharedPrefixes(ctx, sel.IDs)
	if err != nil {
		return Affected{}, err
	}
	asked := len(sel.IDs)
	sel.IDs = slices.DeleteFunc(slices.Clone(sel.IDs), func(id string) bool { return slices.Contains(shared, id) })
	out := Affected{Ambiguous: shared}
	if asked > 0 && len(sel.IDs) == 0 {
		return out, nil
	}
	if out, err = o.change(ctx, actor, action, sel); err == nil {
		err = o.changeElsewhere(ctx, actor, action, sel, &out)
	}
	out.Ambiguous = append(out.Ambiguous, shared...)
	return out, err
}

// change is Change for the own queue.
func (o *Operator) change(ctx context.Context, actor Actor, action Action, sel Selection) (Affected, error) {
	f, err := sel.filter()
	if err != nil {
		return Affected{}, failed(invalid, err)
	}
	out := o.resolve(&f, sel.IDs)
	if action == Bounce {
		out.UndoSeconds = int(o.o.Queue.BounceDelay().Seconds())
	}
	if len(sel.IDs) > 0 && len(f.IDs) == 0 {
		return out, nil
	}
	if sel.Why != "" {
		if f.IDs, err = o.waitingFor(ctx, f, sel.Why); err != nil || len(f.IDs) == 0 {
			return out, err
		}
	}
	if sel.DryRun {
		if action != Remove && action != Bounce {
			return Affected{}, failed(invalid, phrase.Errorf("dry_run is for remove and bounce, not for %s", action))
		}
		err := o.o.Queue.List(ctx, f, func(queue.Message) bool { out.Affected++; return true })
		return out, err
	}
	f.By = actor.String()
	if out.Affected, err = o.apply(ctx, action, f, sel.Reason); err != nil {
		return out, err
	}
	o.logOnly(ctx, actor, "queue changed by the operator",
		append([]slog.Attr{slog.String("action", string(action)), slog.Int("touched", out.Affected)}, sel.attrs()...)...)
	if action == Retry { // the others are in the history of each message
		o.recordRetry(actor, f.IDs, out.Affected, sel)
	}
	return out, nil
}

// recordRetry adds to the history that messages were made due: to that of the message where
// it is one. A long list of IDs is left out.
func (o *Operator) recordRetry(actor Actor, ids []queue.ID, touched int, sel Selection) {
	r := history.Record{What: "made due by the operator"}
	if len(ids) == 1 {
		r.QueueID = ids[0].String()
	}
	sel.IDs = nil
	o.record(actor, r, append([]slog.Attr{slog.Int("messages", touched)}, sel.attrs()...)...)
}

// waitingFor returns the messages of a filter that wait for a reason, by its code. A code
// that no reason has is an error.
func (o *Operator) waitingFor(ctx context.Context, f queue.Filter, why string) (ids []queue.ID, err error) {
	if failure.Of(why).Reason == 0 {
		return nil, failed(invalid, phrase.Errorf("why %q is no code of a reason; docs/reasons.md lists them", why))
	}
	err = o.o.Queue.List(ctx, f, func(m queue.Message) bool {
		if newMessage(&m, nil).Reason.Code == why {
			ids = append(ids, m.ID)
		}
		return true
	})
	return ids, err
}

// resolve adds the messages that IDs or their prefixes name to a filter. It
// returns the IDs that name none or several.
func (o *Operator) resolve(f *queue.Filter, ids []string) (out Affected) {
	for _, id := range ids {
		full, err := o.o.Queue.Resolve(id)
		switch {
		case errors.Is(err, queue.ErrAmbiguous):
			out.Ambiguous = append(out.Ambiguous, id)
		case err != nil:
			out.Missing = append(out.Missing, id)
		default:
			f.IDs = append(f.IDs, full)
		}
	}
	return out
}

func (o *Operator) apply(ctx context.Context, action Action, f queue.Filter, reason string) (int, error) {
	q := o.o.Queue
	switch action {
	case Retry:
		return q.Retry(ctx, f)
	case Hold:
		if reason == "" {
			reason = heldByOperator.String()
		}
		return q.Hold(ctx, f, reason)
	case Release:
		return q.Unhold(ctx, f)
	case Remove:
		return q.Remove(ctx, f)
	case Bounce:
		return q.Bounce(ctx, f, reason, func(m queue.Message) *queue.NewMessage {
			if o.o.Notice == nil {
				return nil
			}
			return o.o.Notice(m, reason)
		})
	}
	return 0, failed(notFound, phrase.Errorf("there is no action %q", action))
}
