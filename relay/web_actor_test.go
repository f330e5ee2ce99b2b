package relay_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Every action on the page says in the log and in the history who did it.
func TestActionsOnTheWebPageHaveAnActor(t *testing.T) {
	w, log := e2e.NewLogged(t, "paused = true\n"+actingConfig(t)+"[tlsrpt]\nenabled = true\n")
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	id := func() string { return w.Send("anna@sender.example", "kurt@a.example") }
	one, removed, bounced := id(), id(), id()
	browser := acting(w)
	for _, row := range []struct {
		path string
		form url.Values
		id   string // of the message that has the record
		what string
	}{
		{"/queue/act", url.Values{"action": {"hold"}, "id": {one}}, one, "held by the operator"},
		{"/queue/act", url.Values{"action": {"release"}, "id": {one}}, one, "released by the operator"},
		{"/queue/act", url.Values{"action": {"retry"}, "id": {one}}, one, "made due by the operator messages=1"},
		{"/queue/act", url.Values{"action": {"retry"}, "scope": {"filter"}, "domain": {"a.example"}}, "", "made due by the operator messages=3 domain=a.example all=true"},
		{"/queue/act", url.Values{"action": {"remove"}, "id": {removed}, "confirm": {"1"}}, removed, "removed by the operator"},
		{"/queue/act", url.Values{"action": {"bounce"}, "id": {bounced}, "confirm": {"1"}}, bounced, "bounced by the operator"},
		{"/pause", url.Values{"paused": {"true"}}, "", "delivery paused by the operator"},
		{"/policies/refresh", url.Values{"domain": {"a.example"}}, "", "policy refresh requested by the operator domain=a.example"},
		{"/reports/send", url.Values{"day": {tlsrpt.DayOf(time.Now().AddDate(0, 0, -1))}}, "", "TLS reports sent by the operator day="},
		{"/pause", url.Values{"paused": {"false"}}, "", "delivery resumed by the operator"},
		{"/pause", url.Values{"paused": {"true"}, "domain": {"a.example"}, "for": {"2h"}, "confirm": {"yes"}}, "", "delivery paused by the operator domain=a.example until="},
		{"/pause", url.Values{"paused": {"false"}, "domain": {"a.example"}}, "", "delivery resumed by the operator domain=a.example"},
	} {
		from := len(log.String())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.Relay.HTTPAddr().String()+row.path, strings.NewReader(row.form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if status, _, body := fetch(w, browser, req); status != http.StatusOK {
			t.Fatalf("%s %v: %d\n%s", row.path, row.form, status, body)
		}
		if line := log.String()[from:]; !strings.Contains(line, `"actor":"web 127.0.0.1"`) {
			t.Errorf("%s: the log has no actor:\n%s", row.what, line)
		}
		var list []history.Record
		if err := w.Admin().Get(t.Context(), "/v1/history", url.Values{"event": {"operator"}}, &list); err != nil || len(list) == 0 {
			t.Fatalf("%s: %+v, %v", row.what, list, err)
		}
		found := false
		for _, r := range list {
			found = found || strings.HasPrefix(r.What, row.what) && r.By == "web 127.0.0.1" && r.QueueID == row.id
		}
		if !found {
			t.Errorf("the history has no %q of %q: %+v", row.what, row.id, list)
		}
	}
	for _, path := range []string{"/history/" + one, "/history"} {
		if body := page(w, path); !strings.Contains(body, `<span lang="en">held by the operator: by the operator</span>, by web 127.0.0.1`) {
			t.Errorf("%s does not say who:\n%s", path, body)
		}
	}
}
