package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/operator"
)

const (
	groupDomains     = 5  // of a reason on the overview
	openGroups       = 1  // reasons whose remedy and domains are shown at once
	overviewDays     = 2  // of reports on the overview: yesterday's, and today's
	overviewProblems = 3  // of policies on the overview
	overviewHours    = 24 // of the pictures
)

// overviewPage is the state of the relay: first who must act, then why, then what went
// through.
type overviewPage struct {
	OldestAt *time.Time // of what waits
	Owners   []ownerCount
	Groups   []reasonGroup
	Traffic  *traffic // nil: there is no history
	Policies policyCounts
	Days     []reportDay
	Fleet    *operator.FleetStatus // nil: this relay is alone
	Reports  string                // why there are no days, "" where they are all there
}

// ownerCount is how much waits for somebody to mend something.
type ownerCount struct {
	Owner             failure.Owner // "" is what has not failed yet
	Messages, Domains int
}

// reasonGroup is what waits for one reason.
type reasonGroup struct {
	Reason            failure.Row
	Messages, Domains int
	OldestAt          time.Time
	First             []operator.DomainSummary // the domains with most messages
	Open              bool
	Width             int // of its bar, in percent of the longest one
}

// More returns how many domains are not named.
func (g *reasonGroup) More() int { return g.Domains - len(g.First) }

// New reports whether these have not failed yet.
func (g *reasonGroup) New() bool { return g.Reason.Code == failure.New.Code() }

func (p *pages) overview(r *http.Request, v *view) error {
	v.Tab, v.Title = "overview", v.T("Overview")
	o := &overviewPage{}
	o.Fleet, _ = p.operator.FleetStatus(r.Context()) // an error: there is none
	domains, err := p.waiting(r.Context(), o.Fleet)
	if err != nil {
		return err
	}
	for i := range domains {
		if at := domains[i].OldestAt; o.OldestAt == nil || at.Before(*o.OldestAt) {
			o.OldestAt = &at
		}
	}
	o.Groups = groupByReason(domains)
	o.Owners = countOwners(o.Groups)
	o.Policies = p.countPolicies(domains, v)
	hours, err := p.operator.Hours(r.Context(), overviewHours)
	if hours != nil || err != nil {
		o.Traffic = newTraffic(hours)
	}
	if err != nil {
		v.Note = v.T("The history of the last %d hours could not be read in time; older hours are missing below.", overviewHours)
	}
	o.Reports = p.lastReports(r.Context(), o, v)
	v.Page = o
	return nil
}

// waiting returns what waits by domain: at all relays of a fleet, or at this one where the
// store of the others does not answer.
func (p *pages) waiting(ctx context.Context, fleet *operator.FleetStatus) ([]operator.DomainSummary, error) {
	if fleet != nil && !fleet.Problem.IsZero() {
		return p.operator.Summary(), nil
	}
	return p.operator.FleetSummary(ctx)
}

// lastReports fills in the reports of the last days. It returns why there are none, or not
// all: the rest of the page is worth showing without them. A store that does not answer is
// not waited for.
func (p *pages) lastReports(ctx context.Context, o *overviewPage, v *view) string {
	if o.Fleet != nil && !o.Fleet.Problem.IsZero() {
		return v.Say(o.Fleet.Problem)
	}
	reports := &view{words: v.words}
	var err error
	if o.Days, err = p.days(ctx, overviewDays, reports); err != nil {
		return v.Say(phrase.Of(err))
	}
	return reports.Note
}

// ownerOrder is the order in which people want to hear of what waits: what they can mend
// themselves comes first.
var ownerOrder = map[failure.Owner]int{failure.Local: 0, failure.Network: 1, failure.Remote: 2}

// groupByReason returns what waits by its reason: ours first, what has not failed yet last.
func groupByReason(domains []operator.DomainSummary) []reasonGroup {
	byCode := make(map[string]*reasonGroup)
	var groups []*reasonGroup
	for i := range domains {
		d := &domains[i]
		g := byCode[d.Reason.Code]
		if g == nil {
			g = &reasonGroup{Reason: d.Reason.Row(), OldestAt: d.OldestAt}
			byCode[d.Reason.Code] = g
			groups = append(groups, g)
		}
		g.Messages += d.Messages
		g.Domains++
		if d.OldestAt.Before(g.OldestAt) {
			g.OldestAt = d.OldestAt
		}
		if len(g.First) < groupDomains {
			g.First = append(g.First, *d)
		}
	}
	rank := func(g *reasonGroup) int {
		if g.New() {
			return len(ownerOrder)
		}
		return ownerOrder[g.Reason.Owner]
	}
	slices.SortStableFunc(groups, func(a, b *reasonGroup) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Reason.Code, b.Reason.Code))
	})
	most := 1
	for _, g := range groups {
		most = max(most, g.Messages)
	}
	out := make([]reasonGroup, len(groups))
	for i, g := range groups {
		g.Open = !g.New() && (i < openGroups || g.Reason.Owner == failure.Local)
		g.Width = max(1, 100*g.Messages/most)
		out[i] = *g
	}
	return out
}

// countOwners returns how much waits for whom, in their order, and what has not failed
// yet. A message with recipients of several domains counts for each.
func countOwners(groups []reasonGroup) []ownerCount {
	list := []ownerCount{{Owner: failure.Local}, {Owner: failure.Network}, {Owner: failure.Remote}, {}}
	for i := range groups {
		at := len(list) - 1
		if !groups[i].New() {
			at = ownerOrder[groups[i].Reason.Owner]
		}
		list[at].Messages += groups[i].Messages
		list[at].Domains += groups[i].Domains
	}
	return list
}

// policyCounts is the policy cache in numbers.
type policyCounts struct {
	Off                             string // why there is no cache, "" where there is
	Enforce, Testing, None, Missing int
	// Failing are the first policies with a problem, Problems is how many there are.
	Failing  []policyRow
	Problems int
}

func (p *pages) countPolicies(domains []operator.DomainSummary, v *view) (c policyCounts) {
	if err := p.operator.PoliciesOff(); err != nil {
		c.Off = v.Say(phrase.Of(err))
	}
	for _, row := range p.policyRows(domains) {
		switch row.Mode {
		case "enforce":
			c.Enforce++
		case "testing":
			c.Testing++
		case "none":
			c.None++
		default:
			c.Missing++
		}
		if row.Wrong() {
			if c.Problems++; c.Problems <= overviewProblems {
				c.Failing = append(c.Failing, row)
			}
		}
	}
	return c
}
