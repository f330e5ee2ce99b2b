package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/relay/operator"
)

// policiesPage is the policy cache, the policies with a problem first.
type policiesPage struct {
	Domain   string // part of the names that are shown
	Policies []policyRow
}

// policyRow is a policy, and the mail that waits because of it.
type policyRow struct {
	operator.Policy
	Waits *operator.DomainSummary // nil: none
}

// Wrong reports whether a policy has a problem, or mail waits because of it.
func (p *policyRow) Wrong() bool { return p.Waits != nil || !p.Problem().IsZero() }

// policyRows returns the policy cache by domain, with what waits.
func (p *pages) policyRows(domains []operator.DomainSummary) []policyRow {
	waits := make(map[string]*operator.DomainSummary)
	for i := range domains {
		waits[domains[i].Domain] = &domains[i]
	}
	list := p.operator.Policies()
	rows := make([]policyRow, len(list))
	for i := range list {
		rows[i].Policy = list[i]
		if d := waits[list[i].Domain]; d != nil && heldByPolicy(d.Reason.Code, list[i].Mode) {
			rows[i].Waits = d
		}
	}
	return rows
}

// heldByPolicy reports whether mail that waits for a reason would go without the policy
// of its domain.
func heldByPolicy(code, mode string) bool {
	return strings.HasPrefix(code, "sts-") || mode == "enforce" && strings.HasPrefix(code, "tls-")
}

func (p *pages) policies(r *http.Request, v *view) error {
	v.Tab, v.Title = "policies", v.T("Policies")
	if err := p.operator.PoliciesOff(); err != nil {
		return err
	}
	page := &policiesPage{Domain: strings.ToLower(strings.TrimSpace(r.URL.Query().Get("domain")))}
	for _, row := range p.policyRows(p.operator.Summary()) {
		if strings.Contains(row.Domain, page.Domain) || strings.Contains(domainName(row.Domain), page.Domain) {
			page.Policies = append(page.Policies, row)
		}
	}
	slices.SortStableFunc(page.Policies, func(a, b policyRow) int {
		switch {
		case a.Wrong() == b.Wrong():
			return 0
		case a.Wrong():
			return -1
		}
		return 1
	})
	page.Policies = firstRows(page.Policies, pageRows, v, v.T("A part of a domain's name finds others."))
	v.Page = page
	return nil
}
