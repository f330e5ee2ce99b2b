package check

import (
	"fmt"
	"slices"
	"strings"
)

// Brief is a report in one line.
type Brief struct {
	Domain  string  `json:"domain"`
	Outcome Outcome `json:"outcome"`
	// Requirement is what is asked of a delivery: "DANE", "MTA-STS enforce", "rule verify",
	// several of them with "+" between them, or "none".
	Requirement string `json:"requirement"`
	// Worst is the first of the worst problems, nil where there is none.
	Worst *Problem `json:"worst"`
}

// Brief returns the report in one line.
func (r *Report) Brief() Brief {
	b := Brief{Domain: r.Domain, Outcome: r.Outcome, Requirement: r.requirement()}
	if all := r.AllProblems(); len(all) > 0 {
		b.Worst = &all[0]
	}
	return b
}

// String says the outcome in one word, and the worst problem.
func (b *Brief) String() string {
	switch {
	case b.Worst == nil && b.Outcome.Deliverable:
		return b.Outcome.Action
	case b.Worst == nil:
		return b.Outcome.Action + "; " + b.Outcome.Text.String()
	}
	return b.Outcome.Action + "; " + severityWords[b.Worst.Severity] + ": " + b.Worst.Text.String()
}

// Faulty reports whether anything on the page is a FAIL, also where mail goes.
func (r *Report) Faulty() bool {
	all := r.AllProblems()
	return !r.Outcome.Deliverable || len(all) > 0 && all[0].Severity == Fault
}

// AllProblems returns all problems of the report, the worst first, else in the order of the
// page.
func (r *Report) AllProblems() (list []Problem) {
	if r.Rule != nil {
		list = append(list, r.Rule.Problems...)
	}
	list = append(list, r.MX.Problems...)
	if r.Record != nil {
		list = append(list, r.Record.Problems...)
	}
	if r.PolicyHost != nil {
		list = append(list, r.PolicyHost.Problems...)
	}
	if r.Policy != nil {
		list = append(list, r.Policy.Problems...)
	}
	for _, h := range r.Hosts {
		list = append(list, h.Problems...)
		for _, s := range h.Sessions {
			list = append(list, s.Problems...)
		}
	}
	if r.TLSRPT != nil {
		list = append(list, r.TLSRPT.Problems...)
	}
	if r.Published != nil {
		list = append(list, r.Published.Problems...)
	}
	if r.Waiting != nil {
		list = append(list, r.Waiting.Problems...)
	}
	if r.Fallback != nil {
		list = append(list, r.Fallback.AllProblems()...)
	}
	order := []Severity{Fault, Warning, Note}
	slices.SortStableFunc(list, func(a, b Problem) int { return slices.Index(order, a.Severity) - slices.Index(order, b.Severity) })
	return list
}

// requirement says what is asked of a delivery, and by whom.
func (r *Report) requirement() string {
	if r.Fallback != nil {
		return r.Fallback.requirement()
	}
	var asked []string
	dane, clear := 0, true
	for _, h := range r.Hosts {
		if h.TLSA != nil && h.TLSA.Applies {
			dane++
		}
		for _, s := range h.Sessions {
			for _, v := range s.Verdicts {
				clear = clear && !(v.Binding && strings.HasPrefix(v.Source.String(), "delivery.plaintext"))
			}
		}
	}
	switch {
	case dane > 0 && dane == len(r.Hosts):
		asked = append(asked, "DANE")
	case dane > 0:
		asked = append(asked, fmt.Sprintf("DANE (%d of %d hosts)", dane, len(r.Hosts)))
	}
	switch {
	case r.Cached != nil && r.Cached.InForce && r.Cached.Mode != "none":
		asked = append(asked, "MTA-STS "+r.Cached.Mode)
	case r.Policy != nil && r.Policy.InForce && r.Policy.Mode != "none":
		asked = append(asked, "MTA-STS "+r.Policy.Mode)
	}
	if r.Rule != nil && r.Rule.Override {
		asked = nil
	}
	if r.Rule != nil && r.Rule.TLS != "" {
		asked = append(asked, "rule "+r.Rule.TLS)
	}
	if !clear {
		asked = append(asked, "TLS")
	}
	if len(asked) == 0 {
		return "none"
	}
	return strings.Join(asked, "+")
}
