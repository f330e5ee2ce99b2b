package operator

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/queue"
)

// elsewhere calls yield for the selected messages of other queues, until it returns false.
func (o *Operator) elsewhere(ctx context.Context, f queue.Filter, yield func(*Other, *queue.Message) bool) error {
	list, err := o.others(ctx)
	more := true
	for i := range list {
		if err == nil && more {
			err = queue.ReadMessages(ctx, list[i].Store, time.Now(), f, func(m queue.Message) bool {
				more = yield(&list[i], &m)
				return more
			})
		}
	}
	return err
}

// named returns the messages of other queues whose IDs begin with one of ids, by what they
// begin with.
func (o *Operator) named(ctx context.Context, ids []string) (found map[string][]place, err error) {
	found = make(map[string][]place)
	err = o.elsewhere(ctx, queue.Filter{}, func(other *Other, m *queue.Message) bool {
		full := m.ID.String()
		for _, id := range ids {
			if strings.HasPrefix(full, strings.ToUpper(id)) {
				found[id] = append(found[id], place{*other, *m})
			}
		}
		return true
	})
	return found, err
}

// place is a message in another queue.
type place struct {
	in Other
	m  queue.Message
}

// changeElsewhere does an action to messages of other queues: to those with IDs that out
// does not have, and, where no IDs are asked for, to all that the selection has. It adds to
// out what was done.
func (o *Operator) changeElsewhere(ctx context.Context, actor Actor, action Action, sel Selection, out *Affected) error {
	orders := make(map[string]order)
	add := func(space string, sel Selection) {
		orders[space] = order{Do: "change", Action: action, Selection: sel}
	}
	if len(sel.IDs) == 0 {
		list, err := o.others(ctx)
		if err != nil {
			return err
		}
		for _, other := range list {
			switch {
			case other.Messages == 0:
			case other.Holder == "":
				out.Unreached = append(out.Unreached, other.Space+": no relay works on it now")
			default:
				add(other.Space, sel)
			}
		}
	} else {
		found, err := o.named(ctx, out.Missing)
		if err != nil {
			return err
		}
		ids := make(map[string][]string)
		out.Missing = slices.DeleteFunc(out.Missing, func(id string) bool {
			switch at := found[id]; len(at) {
			case 0:
				return false
			case 1:
				ids[at[0].in.Space] = append(ids[at[0].in.Space], at[0].m.ID.String())
			default:
				out.Ambiguous = append(out.Ambiguous, id)
			}
			return true
		})
		for space, list := range ids {
			part := sel
			part.IDs = list
			add(space, part)
		}
	}
	answers, unreached := o.carry(ctx, orders, actor)
	for _, a := range answers {
		out.Affected += a.Affected.Affected
		out.Missing = append(out.Missing, a.Affected.Missing...)
	}
	out.Unreached = append(out.Unreached, unreached...)
	return nil
}

// sharedPrefixes returns the ids that begin like messages of the own queue and of another
// one.
func (o *Operator) sharedPrefixes(ctx context.Context, ids []string) (shared []string, err error) {
	var here []string
	for _, id := range ids {
		if _, err := o.o.Queue.Resolve(id); err == nil && len(id) < len(queue.ID{}.String()) {
			here = append(here, id)
		}
	}
	if len(here) == 0 {
		return nil, nil
	}
	found, err := o.named(ctx, here)
	for _, id := range here {
		if len(found[id]) > 0 {
			shared = append(shared, id)
		}
	}
	return shared, err
}

// findElsewhere finds the message of another queue whose ID begins with id, nil for none.
// It is an error if there are several, or one here too.
func (o *Operator) findElsewhere(id string, here bool) (*place, error) {
	if here && len(id) == len(queue.ID{}.String()) {
		return nil, nil
	}
	found, err := o.named(context.Background(), []string{id})
	at := found[id]
	switch {
	case err != nil:
		return nil, err
	case len(at) == 0:
		return nil, nil
	case len(at) > 1 || here:
		return nil, failed(notFound, phrase.Errorf("%q: %w", id, queue.ErrAmbiguous))
	}
	return &at[0], nil
}
