package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/printable"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// searchTime bounds how long a page looks for rows: with a filter that matches
// nothing, it would read the whole of a queue of a million messages.
const searchTime = 8 * time.Second

//go:embed page
var pageFiles embed.FS

// pages shows what the operator can read, and does what they ask for. html/template
// escapes what strangers have written there.
type pages struct {
	operator  *operator.Operator
	access    *access
	log       *slog.Logger
	words     map[string]*words                        // by language
	templates map[string]map[string]*template.Template // by language, and file without .html
}

// view is what a template gets.
type view struct {
	*words
	Status operator.Status
	Tab    string // of the navigation
	Title  string
	Page   any
	// Note says why the page does not have everything; "" where it does.
	Note string
	// Done says what the last action did; "" where there was none.
	Done string
	// Here is the page's own address, for forms to come back to.
	Here string
	// MayAct reports whether the reader may change something, CouldAct whether they
	// could after a login, and LoggedIn whether there is a login to end.
	MayAct, CouldAct, LoggedIn bool
	// Refresh is after how many seconds the browser asks again; 0: never.
	Refresh int
}

// newPages reads the templates, which are part of the program: it panics where one of them
// is wrong.
func newPages(o *Options, a *access) *pages {
	p := &pages{operator: o.Operator, access: a, log: o.Logger, words: a.words, templates: make(map[string]map[string]*template.Template)}
	for _, w := range p.words {
		byName := make(map[string]*template.Template)
		layout := template.Must(template.New("layout.html").Funcs(w.functions()).ParseFS(pageFiles, "page/layout.html"))
		for _, name := range pageNames {
			byName[name] = template.Must(template.Must(layout.Clone()).ParseFS(pageFiles, "page/"+name+".html"))
		}
		p.templates[w.Language] = byName
	}
	return p
}

// page returns the handler of one page; fill fills in its view. An error of fill is
// shown under the title of the page.
func (p *pages) page(name string, fill func(*http.Request, *view) error) http.Handler {
	return p.pageWithin(searchTime, name, fill)
}

// pageWithin is page for one that may take another time.
func (p *pages) pageWithin(limit time.Duration, name string, fill func(*http.Request, *view) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		v := p.newView(r)
		status, show := http.StatusOK, name
		if err := fill(r.WithContext(ctx), v); err != nil {
			status, show = operator.HTTPStatus(err), "error"
			v.fail(err)
		}
		p.write(w, status, show, v)
	})
}

// errorPage says what went wrong.
type errorPage struct {
	Text string
	// English reports whether the text has no translation.
	English bool
}

// fail makes the page one that says what went wrong.
func (v *view) fail(err error) {
	text := v.Say(phrase.Of(err))
	v.Page = errorPage{text, v.Language != "en" && text == err.Error()}
}

// fail answers with a page that says what went wrong.
func (p *pages) fail(w http.ResponseWriter, v *view, err error) {
	v.Title = v.T("That did not work")
	v.fail(err)
	p.write(w, operator.HTTPStatus(err), "error", v)
}

// newView returns what every page has.
func (p *pages) newView(r *http.Request) *view {
	role := p.access.role(r)
	v := &view{words: p.words[languageOf(r)], Status: p.operator.Status(), Here: r.URL.RequestURI(),
		MayAct: role == acts, CouldAct: role != acts && p.access.act != ""}
	if n, err := strconv.Atoi(r.URL.Query().Get("refresh")); err == nil && n >= 5 {
		v.Refresh = n
	}
	if secret := secretOf(r); secret != "" {
		v.LoggedIn = p.access.sessions.role(secret, time.Now()) != nobody
		v.Done = p.access.sessions.takeDone(secret)
	}
	return v
}

// write answers with a page.
func (p *pages) write(w http.ResponseWriter, status int, name string, v *view) {
	var b bytes.Buffer // whole, or an error that can still be told
	if err := p.templates[v.Language][name].Execute(printable.NewWriter(&b), v); err != nil {
		p.log.Error("a web page could not be made", "page", name, "error", err)
		http.Error(w, v.T("the page could not be made: see the log"), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", v.Language)
	if v.Refresh > 0 {
		w.Header().Set("Refresh", strconv.Itoa(v.Refresh))
	}
	w.Header().Set("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // the client has gone if it fails
}

// firstRows returns the first n rows. If there are more, the note of the page says so.
func firstRows[T any](rows []T, n int, v *view, whatElse string) []T {
	if len(rows) <= n {
		return rows
	}
	v.Note = fmt.Sprintf("%s %s", v.T("There are more than these %d.", n), whatElse)
	return rows[:n]
}

// noteTimeout turns the end of the search time into a note, so that the page shows
// what was found.
func noteTimeout(err error, v *view) error {
	if errors.Is(err, context.DeadlineExceeded) {
		v.Note = v.T("This is what was found in %s; there may be more.", human.Span(searchTime))
		return nil
	}
	return err
}
