package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
)

// Pause is a pause of delivery: nothing is tried while it lasts.
type Pause struct {
	// Domain is the recipients' domain; "" for delivery as a whole.
	Domain string    `json:"domain"`
	Since  time.Time `json:"since"`
	// Until is its end; nil: it lasts until the operator ends it. That of delivery as a whole
	// ends with the next start, too.
	Until *time.Time `json:"until"`
	By    string     `json:"by,omitempty"` // who ordered it
}

// String says until when it lasts.
func (p Pause) String() string {
	if p.Until == nil {
		return "until it is resumed"
	}
	left := time.Until(*p.Until).Round(time.Second)
	if left > time.Hour {
		left = left.Round(time.Minute) // what was just ordered for 2h is not for 1h 59m
	}
	return fmt.Sprintf("until %s, for %s", human.Clock(*p.Until), human.Span(left))
}

// PauseOrder is what is to be paused or resumed.
type PauseOrder struct {
	Domain string `json:"domain,omitempty"` // "" for delivery as a whole
	// For is how long the pause lasts, such as "2h"; "" until it is ended.
	For string `json:"for,omitempty"`
}

// longestPause is longer than any that makes sense: mail expires before.
const longestPause = 365 * 24 * time.Hour

// Check returns the domain in the form of the queue, "" for delivery as a whole. The error
// says what makes no sense.
func (p *PauseOrder) Check() (domain string, err error) {
	if domain, _, err = p.parsed(); err != nil {
		return "", failed(invalid, err)
	}
	return domain, nil
}

// parsed returns the domain in the form of the queue, and how long the pause lasts.
func (p *PauseOrder) parsed() (domain string, d time.Duration, err error) {
	if p.Domain != "" {
		if domain, err = mailbox.ParseName(p.Domain); err != nil {
			return "", 0, err
		}
	}
	if p.For != "" {
		if d, err = time.ParseDuration(p.For); err != nil || d <= 0 || d > longestPause {
			return "", 0, phrase.Errorf("for %q is not a time such as 2h, of at most a year", p.For)
		}
	}
	return domain, d, nil
}

// Pause pauses the delivery to a domain or as a whole, in a fleet that of all relays.
func (o *Operator) Pause(ctx context.Context, actor Actor, order PauseOrder) (Pause, error) {
	p, err := o.pause(ctx, actor, order)
	if err == nil {
		_, err = o.pauseElsewhere(ctx, actor, "pause", order)
	}
	return p, err
}

// pause is Pause for the own queue.
func (o *Operator) pause(ctx context.Context, actor Actor, order PauseOrder) (Pause, error) {
	domain, d, err := order.parsed()
	if err != nil {
		return Pause{}, failed(invalid, err)
	}
	p, err := o.o.Queue.Pause(ctx, domain, d, actor.String())
	if errors.Is(err, queue.ErrTooManyPauses) {
		return Pause{}, failed(conflict, err)
	}
	if err != nil {
		return Pause{}, err
	}
	o.log(ctx, actor, "delivery paused by the operator", pauseAttrs(domain, p.Until)...)
	return newPause(&p), nil
}

// Resumed is the answer to the end of a pause.
type Resumed struct {
	// Resumed reports whether there was such a pause.
	Resumed bool `json:"resumed"`
	// Pauses are those that last.
	Pauses []Pause `json:"pauses"`
}

// Resume ends the pause of a domain, or that of delivery as a whole, in a fleet that of all
// relays. The other pauses stay.
func (o *Operator) Resume(ctx context.Context, actor Actor, order PauseOrder) (Resumed, error) {
	found, err := o.resume(ctx, actor, order)
	if err == nil {
		var there bool
		there, err = o.pauseElsewhere(ctx, actor, "resume", order)
		found = found || there
	}
	if err != nil {
		return Resumed{}, err
	}
	return Resumed{Resumed: found, Pauses: o.Pauses()}, nil
}

// resume is Resume for the own queue. It reports whether there was such a pause.
func (o *Operator) resume(ctx context.Context, actor Actor, order PauseOrder) (bool, error) {
	domain, _, err := order.parsed()
	if err != nil {
		return false, failed(invalid, err)
	}
	found, err := o.o.Queue.Resume(ctx, domain)
	if err == nil {
		o.log(ctx, actor, "delivery resumed by the operator", pauseAttrs(domain, time.Time{})...)
	}
	return found, err
}

// pauseElsewhere pauses or resumes the other queues of a fleet. It reports whether a pause
// was ended. The error names those that were not reached.
func (o *Operator) pauseElsewhere(ctx context.Context, actor Actor, do string, p PauseOrder) (resumed bool, err error) {
	list, err := o.others(ctx)
	orders := make(map[string]order)
	var unreached []string
	for _, other := range list {
		switch { // what nobody works on delivers nothing, and who takes it over pauses it
		case other.Holder != "":
			orders[other.Space] = order{Do: do, Pause: p}
		case do == "resume" && pausedIn(other.Store, p):
			unreached = append(unreached, other.Space+": no relay works on it now, and it stays paused")
		}
	}
	if err != nil {
		return false, err
	}
	answers, silent := o.carry(ctx, orders, actor)
	unreached = append(unreached, silent...)
	for _, a := range answers {
		resumed = resumed || a.Resumed
	}
	if len(unreached) > 0 {
		err = phrase.Errorf("done here, and not at other relays: %s", strings.Join(unreached, "; "))
	}
	return resumed, err
}

// pausedIn reports whether the queue in a store keeps a pause.
func pausedIn(st store.Reader, p PauseOrder) bool {
	domain, _, err := p.parsed()
	if err != nil {
		return false
	}
	list, err := queue.ReadPauses(st)
	return err == nil && slices.ContainsFunc(list, func(kept queue.Pause) bool {
		return kept.Domain == domain && (kept.Until.IsZero() || kept.Until.After(time.Now()))
	})
}

// Pauses returns the pauses that last: that of delivery as a whole first.
func (o *Operator) Pauses() []Pause {
	out := []Pause{}
	for _, p := range o.o.Queue.Pauses() {
		out = append(out, newPause(&p))
	}
	return out
}

// pauseAttrs returns what is set of a pause, for the log.
func pauseAttrs(domain string, until time.Time) (attrs []slog.Attr) {
	if domain != "" {
		attrs = append(attrs, slog.String("domain", domain))
	}
	if !until.IsZero() {
		attrs = append(attrs, slog.String("until", until.UTC().Format(time.RFC3339)))
	}
	return attrs
}

func newPause(p *queue.Pause) Pause {
	return Pause{Domain: p.Domain, Since: p.Since.UTC().Truncate(time.Millisecond), Until: timePointer(p.Until), By: p.By}
}

// pausesNow are the pauses that last, "" being that of delivery as a whole.
type pausesNow map[string]*Pause

func (o *Operator) pausesNow() pausesNow {
	all := make(pausesNow)
	for _, p := range o.Pauses() {
		all[p.Domain] = &p
	}
	return all
}

// of returns the pause of a domain, nil for none.
func (all pausesNow) of(domain string) *Pause { return cmp.Or(all[""], all[domain]) }

// ofMessage returns the pause for which a queued message waits, nil for none. One of which some
// recipients may be tried waits for none.
func (all pausesNow) ofMessage(m *queue.Message) (found *Pause) {
	if m.State != queue.Queued || len(all) == 0 {
		return nil
	}
	for i, r := range m.Recipients {
		if m.States[i].State != queue.Queued {
			continue
		}
		p := all.of(r.Domain)
		if p == nil {
			return nil
		}
		found = cmp.Or(found, p)
	}
	return found
}
