package web

import (
	"context"
	"net/http"

	"github.com/stsrelay/stsrelay/relay/operator"
)

// published shows the domains whose policies the relay serves.
func (p *pages) published(r *http.Request, v *view) error {
	v.Tab, v.Title = "publish", v.T("Published policies")
	list, err := p.operator.Published(r.Context())
	v.Page = firstRows(list, pageRows, v, v.T("The command has the others: stsrelay publish status."))
	return noteTimeout(err, v)
}

// renewPublished orders a certificate for the policy host of a domain.
func (p *pages) renewPublished(ctx context.Context, r *http.Request, w *words, actor operator.Actor) (done, to string, err error) {
	domain, err := field(r.PostForm, "domain")
	if err != nil {
		return "", "", err
	}
	if err := p.operator.RenewPublished(ctx, actor, domain); err != nil {
		return "", "", err
	}
	return w.T("A certificate for the policy host of %s was ordered, and is here.", domainName(domain)), backOf(r), nil
}
