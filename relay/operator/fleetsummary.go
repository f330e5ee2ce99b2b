package operator

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/queue"
)

// FleetSummary returns what waits by domain at all relays, most messages first; where this
// relay is alone, it is Summary.
func (o *Operator) FleetSummary(ctx context.Context) ([]DomainSummary, error) {
	out := o.Summary()
	if o.o.Fleet == nil {
		return out, nil
	}
	rows := make(map[string]*DomainSummary, len(out))
	for i := range out {
		rows[out[i].Domain] = &out[i]
	}
	ours, pauses := o.sharedNow(), o.pausesNow()
	err := o.elsewhere(ctx, queue.Filter{}, func(_ *Other, m *queue.Message) bool {
		seen := make(map[string]bool, 1)
		for i, r := range m.Recipients {
			if m.States[i].State != queue.Queued {
				continue
			}
			row := rows[r.Domain]
			if row == nil {
				row = &DomainSummary{Domain: r.Domain, OldestAt: m.ReceivedAt.UTC().Truncate(time.Millisecond), Reason: newReason(queue.Reason{}, r.Domain, "", ours), Paused: pauses.of(r.Domain)}
				rows[r.Domain] = row
			}
			row.add(m, i, !seen[r.Domain], ours)
			seen[r.Domain] = true
		}
		return true
	})
	all := make([]DomainSummary, 0, len(rows))
	for _, row := range rows {
		all = append(all, *row)
	}
	slices.SortFunc(all, func(a, b DomainSummary) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Domain, b.Domain))
	})
	return all, err
}

// add counts recipient i of a message that waits at another relay. first reports whether
// the message is not counted for the domain yet.
func (d *DomainSummary) add(m *queue.Message, i int, first bool, ours []string) {
	d.Recipients++
	d.Ages.Add(time.Since(m.ReceivedAt), 1)
	if first {
		d.Messages++
	}
	if at := m.ReceivedAt.UTC().Truncate(time.Millisecond); at.Before(d.OldestAt) {
		d.OldestAt = at
	}
	if at := timePointer(m.Waits[i].NextAttemptAt); at != nil && (d.NextAttemptAt == nil || at.Before(*d.NextAttemptAt)) {
		d.NextAttemptAt = at
	}
	if s := &m.States[i]; d.LastError == "" && s.LastError != "" {
		d.LastError, d.Reason = s.LastError, newReason(s.Reason(), d.Domain, "", ours)
	}
}
