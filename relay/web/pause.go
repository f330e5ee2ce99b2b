package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// pause pauses or resumes delivery. The pause of a domain goes by the page that counts what
// waits for it.
func (p *pages) pause(ctx context.Context, r *http.Request, w *words, actor operator.Actor) (done, to string, err error) {
	paused, err := field(r.PostForm, "paused", "true", "false")
	if err == nil {
		err = once(r.PostForm, "domain", "for", "confirm")
	}
	if err != nil {
		return "", "", err
	}
	order := operator.PauseOrder{Domain: r.PostForm.Get("domain"), For: r.PostForm.Get("for")}
	if paused == "false" {
		if order.For != "" {
			return "", "", operator.Invalid(phrase.Errorf("the field %q is for a pause, not for its end", "for"))
		}
		return p.resume(ctx, r, w, actor, order)
	}
	domain, err := order.Check()
	switch {
	case err != nil:
		return "", "", err
	case domain != "" && r.PostForm.Get("confirm") == "":
		return "", "/pause?" + url.Values{"domain": {domain}, "for": {order.For}, "back": {backOf(r)}}.Encode(), nil
	}
	if _, err := p.operator.Pause(ctx, actor, order); err != nil {
		return "", "", err
	}
	if domain != "" {
		return w.T("Delivery to %s is paused.", domainName(domain)), backOf(r), nil
	}
	return w.T("Delivery is paused."), backOf(r), nil
}

// resume ends a pause.
func (p *pages) resume(ctx context.Context, r *http.Request, w *words, actor operator.Actor, order operator.PauseOrder) (done, to string, err error) {
	out, err := p.operator.Resume(ctx, actor, order)
	switch {
	case err != nil:
		return "", "", err
	case !out.Resumed:
		done = w.T("There was no such pause.")
	case order.Domain != "":
		done = w.T("Delivery to %s goes on.", domainName(order.Domain))
	default:
		done = w.T("Delivery goes on.")
	}
	return done, backOf(r), nil
}

// pausePage asks before the delivery to a domain is paused.
type pausePage struct {
	Domain, For, Back string
	// Waits is what waits for the domain, nil for nothing.
	Waits *operator.DomainSummary
}

// confirmPause is the page between a click on pause and its effect.
func (p *pages) confirmPause(r *http.Request, v *view) error {
	v.Tab, v.Title = "queue", v.T("Are you sure?")
	q := r.URL.Query()
	if err := once(q, "for"); err != nil {
		return err
	}
	given, err := field(q, "domain")
	if err != nil {
		return err
	}
	order := operator.PauseOrder{Domain: given, For: q.Get("for")}
	domain, err := order.Check()
	if err != nil {
		return err
	}
	page := &pausePage{Domain: domain, For: order.For, Back: backOf(r)}
	v.Page = page
	list, err := p.operator.FleetSummary(r.Context())
	if i := slices.IndexFunc(list, func(d operator.DomainSummary) bool { return d.Domain == domain }); i >= 0 {
		page.Waits = &list[i]
	}
	return err
}
