package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Fleet is the other queues of relays that share an engine with this one.
type Fleet struct {
	// Name is that of this relay; Reports is the queue whose holder makes the TLS reports.
	Name, Reports string
	// Others returns the other queues.
	Others func(ctx context.Context) ([]Other, error)
	// Ask hands an order to the relay that holds a queue, and returns its answer. See
	// Execute.
	Ask func(ctx context.Context, space string, order []byte) (answer []byte, err error)
}

// Other is a queue that is not the own one of this relay.
type Other struct {
	// Space is its name, that of the relay whose mail it was.
	Space string
	// Holder is the relay that works on it now, "" for none.
	Holder string
	// Messages is how many wait in it.
	Messages int64
	Store    store.Reader
}

// relay is the name of the relay that has the messages, for people.
func (o *Other) relay() string {
	if o.Holder == "" {
		return "nobody (" + o.Space + ")"
	}
	return o.Holder
}

const (
	// askFor is how long another relay has for its answer.
	askFor = 15 * time.Second
	// askForReports is askFor for TLS reports, which wait for their receivers.
	askForReports = 2 * time.Minute
)

// order is what one relay asks of another.
type order struct {
	Action    Action     `json:"action,omitempty"`
	Selection Selection  `json:"selection"`
	Pause     PauseOrder `json:"pause"`
	Actor     Actor      `json:"actor"`
	// Day and Domain are those of TLS reports, "" for all.
	Day    string `json:"day,omitempty"`
	Domain string `json:"domain,omitempty"`
	// Do is what is asked for; see Execute.
	Do string `json:"do"`
}

// answer is the answer to an order.
type answer struct {
	Affected Affected `json:"affected"`
	Resumed  bool     `json:"resumed,omitempty"`
	// Items are the elements of a list.
	Items []json.RawMessage `json:"items,omitempty"`
	Kind  kind              `json:"kind,omitempty"`
	Error string            `json:"error,omitempty"`
}

// Execute does what the operator at another relay has ordered, for the own queue alone. It
// returns the answer in the form that the other relay reads.
func (o *Operator) Execute(ctx context.Context, content []byte) []byte {
	var in order
	var out answer
	err := json.Unmarshal(content, &in)
	if err != nil {
		err = failed(invalid, phrase.Errorf("the order of another relay cannot be read: %w", err))
	} else {
		switch in.Do {
		case "change":
			out.Affected, err = o.change(ctx, in.Actor, in.Action, in.Selection)
		case "pause":
			_, err = o.pause(ctx, in.Actor, in.Pause)
		case "resume":
			out.Resumed, err = o.resume(ctx, in.Actor, in.Pause)
		case "report list":
			err = o.Reports(ctx, in.Day, in.Domain, func(s tlsrpt.Status) bool { return out.add(s) })
		case "report preview":
			err = o.PreviewReports(ctx, in.Day, in.Domain, func(r *tlsrpt.Report) bool { return out.add(r) })
		case "report send":
			err = o.SendReports(ctx, in.Actor, in.Day, in.Domain, func(s tlsrpt.Status) bool { return out.add(s) })
		default:
			err = failed(conflict, phrase.Errorf("this relay does not know the order %q: update it", in.Do))
		}
	}
	if err != nil {
		out.Error = err.Error()
		if e, ok := errors.AsType[*kindError](err); ok {
			out.Kind = e.kind
		}
	}
	text, err := json.Marshal(&out)
	if err != nil {
		panic(fmt.Sprintf("operator: encode an answer: %v", err)) // its fields can be encoded
	}
	return text
}

// add adds an element to the list.
func (a *answer) add(v any) bool {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("operator: encode %T: %v", v, err)) // its fields can be encoded
	}
	a.Items = append(a.Items, text)
	return true
}

// others returns the other queues, none where this relay is alone.
func (o *Operator) others(ctx context.Context) ([]Other, error) {
	if o.o.Fleet == nil {
		return nil, nil
	}
	list, err := o.o.Fleet.Others(ctx)
	if err != nil {
		return nil, phrase.Errorf("the queues of the other relays: %w", err)
	}
	return list, nil
}

// carry hands orders to the relays that hold the queues, all at the same time. Unreached
// says of which queues there is no answer, and why.
func (o *Operator) carry(ctx context.Context, orders map[string]order, actor Actor) (answers []answer, unreached []string) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	var mu sync.Mutex
	var work sync.WaitGroup
	for space, in := range orders {
		in.Actor = actor
		work.Go(func() {
			out, err := o.ask(ctx, space, in)
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, out)
			if err != nil {
				unreached = append(unreached, space+": "+err.Error())
			}
		})
	}
	work.Wait()
	slices.Sort(unreached)
	return answers, unreached
}

// ask hands an order to the relay that holds a queue. The error is also that of the other
// relay.
func (o *Operator) ask(ctx context.Context, space string, in order) (out answer, err error) {
	in.Actor.User = strings.TrimSpace(in.Actor.User + " at " + o.o.Fleet.Name)
	content, err := json.Marshal(&in)
	if err != nil {
		return out, err
	}
	text, err := o.o.Fleet.Ask(ctx, space, content)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err == nil && out.Error != "" {
		err = failed(out.Kind, phrase.Errorf("%s", phrase.Text(out.Error)))
	}
	return out, err
}

// askReports asks the relay that makes the TLS reports, and calls yield with the elements
// of its answer.
func askReports[T any](ctx context.Context, o *Operator, in order, yield func(T) bool) error {
	ctx, cancel := context.WithTimeout(ctx, askForReports)
	defer cancel()
	out, err := o.ask(ctx, o.o.Fleet.Reports, in)
	if err != nil {
		return phrase.Errorf("the relay that makes the TLS reports: %w", err)
	}
	for _, text := range out.Items {
		var v T
		if err := json.Unmarshal(text, &v); err != nil {
			return phrase.Errorf("the answer of the relay that makes the TLS reports: %w", err)
		}
		if !yield(v) {
			return nil
		}
	}
	return nil
}
