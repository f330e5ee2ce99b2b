package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A form that makes no sense changes nothing, and is answered by a page that says what is
// wrong.
func TestSenselessFormsAreRefused(t *testing.T) {
	s := newSite(t, 1, nil)
	if status, body := s.login("act"); status != http.StatusSeeOther {
		t.Fatal(status, body)
	}
	id := s.ids[0]
	for _, row := range []struct{ path, form, says string }{
		{"/pause", "", `no field &#34;paused&#34;`},
		{"/pause", "domain=b.example", `no field &#34;paused&#34;`},
		{"/pause", "paused=", `no field &#34;paused&#34;`},
		{"/pause", "paused=maybe", `has the value &#34;maybe&#34;, and must have one of these: true, false`},
		{"/pause", "paused=true&paused=false", `the field &#34;paused&#34; 2 times`},
		{"/pause", "paused=true&domain=a.example&domain=b.example", `the field &#34;domain&#34; 2 times`},
		{"/pause", "paused=true&domain=a..b&confirm=yes", `&#34;a..b&#34; is not a domain`},
		{"/pause", "paused=true&for=soon", `for &#34;soon&#34; is not a time`},
		{"/pause", "paused=true&for=-2h", `for &#34;-2h&#34; is not a time`},
		{"/pause", "paused=false&for=2h", `is for a pause, not for its end`},
		{"/queue/act", "id=" + id, `no field &#34;action&#34;`},
		{"/queue/act", "action=eat&id=" + id, `must have one of these: retry, hold, release, bounce, remove`},
		{"/queue/act", "action=eat&id=01ARZ3NDEKTSV4RRFFQ69G5FAV", `must have one of these`},
		{"/queue/act", "action=hold&action=remove&id=" + id, `the field &#34;action&#34; 2 times`},
		{"/queue/act", "action=hold&scope=some&id=" + id, `must have one of these: selected, filter`},
		{"/queue/act", "action=hold&id=", `a field &#34;id&#34; without a value`},
		{"/queue/act", "action=hold&scope=filter&state=odd", `state &#34;odd&#34; is not`},
		{"/queue/act", "action=hold&scope=filter&older_than=-2h", `older_than &#34;-2h&#34; is not a time`},
		{"/queue/act", "action=hold&scope=filter&domain=a.example&domain=b.example", `the field &#34;domain&#34; 2 times`},
		{"/queue/act", "action=hold&scope=filter&why=odd", `why &#34;odd&#34; is no code`},
		{"/queue/act", "action=remove&confirm=1&confirm=2&id=" + id, `the field &#34;confirm&#34; 2 times`},
		{"/policies/refresh", "", `no field &#34;domain&#34;`},
		{"/reports/send", "domain=b.example", `no field &#34;day&#34;`},
		{"/publish/renew", "domain=a.example&domain=b.example", `the field &#34;domain&#34; 2 times`},
	} {
		form, err := url.ParseQuery(row.form)
		if err != nil {
			t.Fatal(err)
		}
		status, _, body := s.post(row.path, form, nil)
		if status != http.StatusBadRequest || !strings.Contains(body, row.says) || !strings.Contains(body, "That did not work") {
			t.Errorf("%s %s: %d, want 400 and %s:\n%s", row.path, row.form, status, row.says, body)
		}
	}
	for _, path := range []string{"/queue/confirm?id=" + id, "/queue/confirm?action=eat&id=" + id, "/pause", "/pause?domain=a..b", "/pause?domain=b.example&for=soon"} {
		if status, _, body := s.get(path); status != http.StatusBadRequest {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
	}
	if s.state(0) != "queued" || !s.queue.Paused() || len(s.queue.Pauses()) != 1 {
		t.Error("something was changed:", s.state(0), s.queue.Pauses())
	}
}
