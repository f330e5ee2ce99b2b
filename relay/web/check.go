package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// checkWait bounds how long the page of a check may take: the check ends before.
const checkWait = 20 * time.Second

// checkPage is the form for a check, and what it found.
type checkPage struct {
	Domain, Sender string
	Report         *check.Report // nil: nothing was checked
}

// checkAddress returns the address of the page that checks a domain for a sender. An
// address stands for its domain.
func checkAddress(domain, sender string) string {
	q := url.Values{"domain": {domain[strings.LastIndexByte(domain, '@')+1:]}}
	if at := strings.LastIndexByte(sender, '@'); at >= 0 {
		q.Set("sender", sender[at+1:])
	}
	return "/check?" + q.Encode()
}

// check shows what the relay would do with mail for a domain. The relay connects to hosts
// that the request names, so it is done for those who may act only: the cookie of a login
// does not come with what another site makes a browser ask for.
func (p *pages) check(r *http.Request, v *view) error {
	v.Tab, v.Title = "check", v.T("Check a domain")
	q := r.URL.Query()
	page := &checkPage{Domain: strings.TrimSpace(q.Get("domain")), Sender: strings.TrimSpace(q.Get("sender"))}
	v.Page = page
	if page.Domain == "" || !v.MayAct {
		return nil
	}
	report, err := p.operator.Check(r.Context(), operator.Actor{Via: "web", User: clientOf(r).String()}, page.Domain, page.Sender)
	if err != nil {
		return err
	}
	v.Title, page.Report = v.T("Check of %s", domainName(report.Domain)), report
	return nil
}
