package relay_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// browse asks the relay's web page for a path, as an address bar would.
func browse(w *e2e.World, path string) (status int, header http.Header, body string) {
	w.T.Helper()
	req, err := http.NewRequestWithContext(w.T.Context(), http.MethodGet, "http://"+w.Relay.HTTPAddr().String()+path, http.NoBody)
	if err != nil {
		w.T.Fatal(err)
	}
	return fetch(w, http.DefaultClient, req)
}

// fetch sends a request and reads the answer.
func fetch(w *e2e.World, client *http.Client, req *http.Request) (status int, header http.Header, body string) {
	w.T.Helper()
	res, err := client.Do(req)
	if err != nil {
		w.T.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.T.Fatal(err)
	}
	return res.StatusCode, res.Header, string(text)
}

// page is a page that is there, whole and well-formed.
func page(w *e2e.World, path string) string {
	w.T.Helper()
	status, header, body := browse(w, path)
	if status != http.StatusOK || header.Get("Content-Type") != "text/html; charset=utf-8" {
		w.T.Fatalf("%s: %d, %s", path, status, header.Get("Content-Type"))
	}
	for _, fault := range htmlFaults(body) {
		w.T.Errorf("%s: %s in\n%s", path, fault, body)
	}
	return body
}

// htmlFaults are tags that do not fit each other, and what a page of ours never
// has: scripts, what comes from elsewhere, handlers of events.
func htmlFaults(page string) (faults []string) {
	var open []string
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		kind := z.Next()
		tag := z.Token()
		switch kind {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) || len(open) > 0 {
				faults = append(faults, "it ends within "+strings.Join(open, " "))
			}
			return faults
		case html.StartTagToken, html.SelfClosingTagToken:
			switch tag.Data {
			case "meta", "link", "input", "br":
			case "rect", "line": // SVG has tags that end themselves
				if kind == html.StartTagToken {
					open = append(open, tag.Data)
				}
			case "script", "img", "iframe", "style", "b":
				faults = append(faults, "there is a "+tag.Data)
			default:
				open = append(open, tag.Data)
			}
			for _, a := range tag.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "/") && a.Val != "#main" {
					faults = append(faults, tag.String())
				}
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != tag.Data {
				return append(faults, "</"+tag.Data+"> ends "+strings.Join(open, " "))
			}
			open = open[:len(open)-1]
		}
	}
}

func TestTheWebPageShowsWhatTheCommandLineDoes(t *testing.T) {
	w := e2e.New(t, "[admin]\nhttp = \"127.0.0.1:0\"\n")
	for _, path := range []string{"/", "/queue", "/policies", "/reports"} {
		if body := page(w, path); strings.Contains(body, "paused") {
			t.Errorf("%s of an idle relay:\n%s", path, body)
		}
	}
	good, busy := w.Host("mx1.good.example"), w.Host("mx1.busy.example")
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}, Policy: e2e.PolicyFor("enforce", good.Name)})
	w.Domain("busy.example", testnet.Domain{MX: []string{busy.Name}})
	w.SetFaults(busy, testnet.Faults{Recipients: map[string]string{"kurt@busy.example": "450 4.2.1 the mailbox sleeps"}})
	if _, gone := w.Attempted(w.Send("anna@sender.example", "kurt@good.example")); !gone {
		t.Fatal("not delivered")
	}
	id := w.Send("anna@sender.example", "kurt@busy.example", "lena@busy.example")
	w.Attempted(id)
	w.Relay.Queue().SetPaused(true)
	day := tlsrpt.DayOf(time.Now())
	for _, row := range []struct {
		path      string
		has, lack string
	}{
		{"/", "Delivery is paused", ""},
		{"/", `<a href="/queue?domain=busy.example">busy.example</a>`, "good.example</a></td><td class=\"n\" data-label=\"Messages\""},
		{"/", "<strong>1</strong> in one domain", "the mailbox sleeps"},
		{"/", "Nothing if it passes by itself; else read the reply.", ""},
		{"/", `<a href="/queue?why=rcpt">All of this reason</a>`, ""},
		{"/", `<th scope="row">Delivered</th><td class="n">2</td><td class="n">2</td>`, ""},
		{"/", `<a href="/history?proof=mta-sts">MTA-STS</a> 1 (50.0 %)`, ""},
		{"/queue?why=rcpt", "the mailbox sleeps", ""},
		{"/queue?why=dns", "No messages.", id},
		{"/queue?domain=Busy.example", "<dt>Oldest</dt><dd>in the queue for", ""},
		{"/queue?domain=busy.example", "Nothing if it passes by itself; else read the reply.", ""},
		{"/queue/" + id, "<em>Whose: theirs.</em>", ""},
		{"/queue/" + id, "<dt>What helps</dt>", ""},
		{"/queue/" + id, "<dt>Given up</dt><dd><time", ""},
		{"/queue/" + id, "<dt>Last attempt</dt><dd><time", "Waits for"},
		{"/", `<a href="/reports/` + day + `">`, ""},
		{"/", "1 enforce, 0 testing, 0 none</a>. Nothing is wrong with them.", ""},
		{"/queue", `<a class="id" href="/queue/` + id + `">` + id + `</a>`, "There are more"},
		{"/queue?domain=BUSY.example&from=anna@sender.example&to=kurt@busy.example&state=queued&older_than=0s", id, ""},
		{"/queue?domain=good.example", "No messages.", id},
		{"/queue?state=held", "<option value=\"held\" selected>held</option>", id},
		{"/queue/" + strings.ToLower(id), "450 4.2.1 the mailbox sleeps", "Hello"},
		{"/queue/" + id, "lena@busy.example", ""},
		{"/history?domain=good.example&verdict=delivered", "mx1.good.example", "busy.example"},
		{"/history?proof=verified", "lena@busy.example", "kurt@good.example"},
		{"/history?to=nobody@good.example", "The history has nothing of that.", ""},
		{"/history/" + id, "the mailbox sleeps", "good.example"},
		{"/history/" + id, "/history/" + id + "/evidence", ""},
		{"/policies", "mx1.good.example", ""},
		{"/policies?domain=GOOD", "mx1.good.example", ""},
		{"/policies?domain=bad", "No policies.", "mx1.good.example"},
		{"/reports", day, ""},
		{"/reports", `class="well"><title>` + day + ": 2</title>", ""},
		{"/reports/" + day, "busy.example", ""},
		{"/reports/" + day + "?domain=good.example", "good.example", "busy.example"},
	} {
		body := page(w, row.path)
		if !strings.Contains(body, row.has) || row.lack != "" && strings.Contains(body, row.lack) {
			t.Errorf("%s: want %q, not %q, in\n%s", row.path, row.has, row.lack, body)
		}
	}
	for path, want := range map[string]int{
		"/queue?state=asleep": 400, "/queue?domain=..": 400, "/queue?older_than=long": 400, "/history?since=yesterday": 400, "/history?verdict=odd": 400, "/history/01ZZZZZZZZZZZZZZZZZZZZZZZZ": 404, "/queue/01ZZZZZZZZZZZZZZZZZZZZZZZZ": 404, "/reports/yesterday": 400,
		"/queue/" + id + "/content": 404, "/v1/queue": 404, "/nothing": 404,
	} {
		status, _, body := browse(w, path)
		if status != want || want == 400 && !strings.Contains(body, "Back to the overview") {
			t.Errorf("%s: %d, want %d\n%s", path, status, want, body)
		}
	}
	if status, header, body := browse(w, "/style.css"); status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/css") || !strings.Contains(body, "prefers-color-scheme") {
		t.Errorf("the style sheet: %d %v", status, header)
	}
}

func TestWhatStrangersWriteIsTextOnTheWebPage(t *testing.T) {
	const bad = `<script>alert(1)</script><img src=x onerror=alert(1)>'"&`
	w := e2e.New(t, "[admin]\nhttp = \"127.0.0.1:0\"\n")
	h := w.Host("mx1.evil.example")
	w.Domain("evil.example", testnet.Domain{MX: []string{h.Name}})
	w.SetFaults(h, testnet.Faults{Replies: map[string]string{"mail": "450 4.7.0 " + bad}})
	w.Domain("lies.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	w.SetPolicyFaults("lies.example", testnet.PolicyFaults{Body: "version: STSv1\r\nmode: enforce\r\nmx: " + bad + "\r\nmax_age: 86400\r\n"})
	id := w.Send(`"<script>from()</script>"@sender.example`, `"<script>to('&')</script>"@evil.example`)
	w.Attempted(id)
	w.Attempted(w.Send("anna@sender.example", "kurt@lies.example"))
	day := tlsrpt.DayOf(time.Now())
	for path, want := range map[string]string{
		"/":               "&lt;script&gt;alert(1)&lt;/script&gt;",
		"/queue":          "&lt;script&gt;from()&lt;/script&gt;",
		"/queue/" + id:    "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;",
		"/policies":       "&lt;script&gt;alert(1)&lt;/script&gt;",
		"/reports":        day,
		"/reports/" + day: "evil.example",
		"/queue?to=%22%3Cscript%3E&from=%22%3E%3Cscript%3E": "&lt;script&gt;",
		"/policies?domain=%22%3E%3Cscript%3E":               "&lt;script&gt;",
	} {
		if body := page(w, path); !strings.Contains(body, want) {
			t.Errorf("%s: no %s in\n%s", path, want, body)
		}
	}
	for _, path := range []string{"/queue?domain=%3Cscript%3Ex()", "/queue/%3Cscript%3Ex()", "/reports/%3Cscript%3Ex()", "/reports/" + day + "?domain=%3Cscript%3Ex()"} {
		if status, _, body := browse(w, path); status/100 != 4 || len(htmlFaults(body)) > 0 || strings.Contains(body, "<script") || !strings.Contains(strings.ToLower(body), "script&gt;") {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
	}
}
