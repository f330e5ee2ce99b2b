package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

const (
	// maxForm is how many octets a form may have.
	maxForm = 1 << 20
	// actTime is how long an action may take before its page is answered.
	actTime = writeTime - 5*time.Second
)

// actions returns the handlers of what changes something, by their paths.
func (p *pages) actions() map[string]http.Handler {
	return map[string]http.Handler{
		"/queue/act":        p.action(p.act),
		"/pause":            p.action(p.pause),
		"/policies/refresh": p.action(p.refreshPolicy),
		"/reports/send":     p.action(p.sendReports),
		"/publish/renew":    p.action(p.renewPublished),
	}
}

// action returns the handler of an action. do returns what it did, which the next page
// says, and where to go.
func (p *pages) action(do func(context.Context, *http.Request, *words, operator.Actor) (done, to string, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), actTime)
		defer cancel()
		if err := r.ParseForm(); err != nil {
			p.fail(w, p.newView(r), operator.Invalid(phrase.Errorf("the form cannot be read: %w", err)))
			return
		}
		words := p.words[languageOf(r)]
		done, to, err := do(ctx, r, words, operator.Actor{Via: "web", User: clientOf(r).String()})
		if err != nil {
			v := p.newView(r)
			v.Here = backOf(r)
			p.fail(w, v, err)
			return
		}
		p.access.sessions.setDone(secretOf(r), done)
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
}

// act does something to messages of the queue. What cannot be taken back goes by the
// page that counts, and has the number there in "confirm".
func (p *pages) act(ctx context.Context, r *http.Request, w *words, actor operator.Actor) (done, to string, err error) {
	action, err := actionOf(r.PostForm, operator.Retry, operator.Hold, operator.Release, operator.Bounce, operator.Remove)
	if err == nil {
		err = once(r.PostForm, "reason", "confirm")
	}
	if err != nil {
		return "", "", err
	}
	sel, err := targetOf(r.PostForm)
	if err != nil {
		return "", "", err
	}
	back := backOf(r)
	if len(sel.IDs) == 0 && !sel.All {
		return w.T("Nothing was selected."), back, nil
	}
	sel.Reason = strings.TrimSpace(r.PostForm.Get("reason"))
	if action == operator.Bounce || action == operator.Remove {
		dry := sel
		dry.DryRun = true
		n, err := p.operator.Change(ctx, actor, action, dry)
		if err != nil {
			return "", "", err
		}
		if confirm := r.PostForm.Get("confirm"); strings.TrimSpace(confirm) != strconv.Itoa(n.Affected) {
			if confirm != "" {
				done = w.T("%s is not the number of messages; nothing was changed.", confirm)
			}
			return done, confirmAddress(r.PostForm), nil
		}
	}
	out, err := p.operator.Change(ctx, actor, action, sel)
	if err != nil {
		return "", "", err
	}
	if sel.IDs != nil && action != operator.Remove && action != operator.Bounce {
		back = withSelection(back, sel.IDs)
	}
	return strings.TrimSpace(w.N(out.Affected, didWhat[action]) + " " + missing(w, out)), back, nil
}

// actionOf returns the action that a form asks for, one of those that there are.
func actionOf(form url.Values, there ...operator.Action) (operator.Action, error) {
	words := make([]string, len(there))
	for i, a := range there {
		words[i] = string(a)
	}
	action, err := field(form, "action", words...)
	return operator.Action(action), err
}

// didWhat says what an action did.
var didWhat = map[operator.Action]string{
	operator.Retry:   "One message is due now.|%d messages are due now.",
	operator.Hold:    "One message is held.|%d messages are held.",
	operator.Release: "One message is released.|%d messages are released.",
	operator.Remove:  "One message was moved to the trash.|%d messages were moved to the trash.",
	operator.Bounce:  "One message was given up; its sender is told.|%d messages were given up; their senders are told.",
}

// missing says which of the selected messages are not there any more.
func missing(w *words, out operator.Affected) string {
	if len(out.Missing)+len(out.Ambiguous) == 0 {
		return ""
	}
	return w.N(len(out.Missing)+len(out.Ambiguous), "One other is not in the queue any more.|%d others are not in the queue any more.")
}

// confirmAddress returns the address of the page that counts the messages of a form.
func confirmAddress(form url.Values) string {
	q := url.Values{}
	for _, key := range append(queueFilter, "id", "scope", "action", "reason", "back") {
		for _, v := range form[key] {
			if v != "" {
				q.Add(key, v)
			}
		}
	}
	return "/queue/confirm?" + q.Encode()
}

// withSelection returns the address of a list with messages selected, so that they stay
// selected when the page is loaded again. Other pages stay as they are.
func withSelection(back string, ids []string) string {
	u, err := url.Parse(back)
	if err != nil || u.Path != "/queue" {
		return back
	}
	q := u.Query()
	q["id"] = ids
	u.RawQuery = q.Encode()
	return u.String()
}

// refreshPolicy fetches the policy of a domain.
func (p *pages) refreshPolicy(ctx context.Context, r *http.Request, w *words, actor operator.Actor) (done, to string, err error) {
	domain, err := field(r.PostForm, "domain")
	if err != nil {
		return "", "", err
	}
	policy, err := p.operator.RefreshPolicy(ctx, actor, domain)
	if err != nil {
		return "", "", err
	}
	return w.T("The policy of %s was fetched: mode %s, id %s.", domainName(policy.Domain), policy.Mode, policy.ID), backOf(r), nil
}

// sendReports sends the TLS reports of a day.
func (p *pages) sendReports(ctx context.Context, r *http.Request, w *words, actor operator.Actor) (done, to string, err error) {
	day, err := field(r.PostForm, "day")
	if err != nil {
		return "", "", err
	}
	domain, err := optional(r.PostForm, "domain")
	if err != nil {
		return "", "", err
	}
	n := 0
	states := make(map[tlsrpt.State]int)
	err = p.operator.SendReports(ctx, actor, day, domain, func(s tlsrpt.Status) bool {
		n++
		states[s.State]++
		return ctx.Err() == nil
	})
	if err != nil && n == 0 {
		return "", "", err
	}
	done = w.N(n, "One report was looked at|%d reports were looked at") + ": " +
		w.T("%d sent, %d wait, %d failed.", states["sent"], states["waiting"], states["failed"])
	if err != nil {
		done += " " + w.Say(phrase.Of(err))
	}
	return done, backOf(r), nil
}
