package received

import (
	"context"
	"maps"
	"slices"
	"time"
)

// What makes a failure worth telling: it was not seen before, and it is no single session.
const (
	newDays     = 3 // the last days in which it is new
	knownDays   = 14
	minSessions = 10
	minPercent  = 5 // of the sessions of the domain in the new days
)

// Trouble is what a person should know of.
type Trouble struct {
	// Mails counts the mails without a report that came today and yesterday, Dropped what was
	// not kept because a day's bound was reached.
	Mails, Dropped int
	Failures       []NewFailure
}

// NewFailure is a way of failing that senders report since the last days.
type NewFailure struct {
	Domain string
	Failure
}

// Troubles returns what came up in the last days.
func (a *Archive) Troubles(ctx context.Context) (Trouble, error) {
	var t Trouble
	in, err := a.Intakes(ctx, a.Since(24*time.Hour))
	if err != nil {
		return t, err
	}
	for _, i := range in {
		t.Mails, t.Dropped = t.Mails+i.Mails, t.Dropped+i.Dropped
	}
	fresh := collection{domains: make(map[string]*collected)}
	known := make(map[[3]string]bool)
	from := a.Since(newDays * 24 * time.Hour)
	err = scan(a, kindSum, a.Since((newDays+knownDays)*24*time.Hour), func(key []byte, s *Sum) error {
		if s.Day, _ = dayOf(key); s.Day >= from {
			fresh.of(s.Domain).add(s)
		} else {
			known[[3]string{s.Domain, s.Type, s.MX}] = true
		}
		return ctx.Err()
	})
	if err != nil {
		return t, err
	}
	for _, domain := range slices.Sorted(maps.Keys(fresh.domains)) {
		sum := fresh.domains[domain].summary()
		for _, f := range sum.Failures {
			many := f.Sessions >= minSessions || f.Sessions*100 >= minPercent*(sum.Successful+sum.Failed)
			if many && !known[[3]string{domain, f.Type, f.MX}] {
				t.Failures = append(t.Failures, NewFailure{domain, f})
			}
		}
	}
	return t, nil
}
