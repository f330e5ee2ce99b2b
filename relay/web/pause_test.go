package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Every page names a domain that is paused and when it goes on, and lets the operator end it.
func TestThePagesNameADomainThatIsPaused(t *testing.T) {
	s := newSite(t, 1, nil)
	if status, _ := s.login("act"); status != http.StatusSeeOther {
		t.Fatal(status)
	}
	if status, _, _ := s.post("/pause", url.Values{"paused": {"false"}, "back": {"/"}}, nil); status != http.StatusSeeOther {
		t.Fatal(status)
	}
	if status, _, body := s.post("/pause", url.Values{"paused": {"true"}, "domain": {"b.example"}, "for": {"2h"}, "confirm": {"yes"}, "back": {"/"}}, nil); status != http.StatusSeeOther {
		t.Fatal(status, body)
	}
	for path, want := range map[string][]string{
		"/":                  {"Delivery to b.example is paused.", "It goes on", `name="domain" value="b.example"`, "paused"},
		"/queue":             {"Delivery to b.example is paused.", "<td>paused</td>"},
		"/queue/" + s.ids[0]: {"Delivery to b.example is paused.", "<dd>paused, "},
	} {
		_, _, body := s.get(path)
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("%s lacks %q:\n%s", path, text, body)
			}
		}
		if strings.Contains(body, "Nothing is tried before it is resumed.") {
			t.Errorf("%s says that delivery as a whole is paused", path)
		}
	}
	if status, _, _ := s.post("/pause", url.Values{"paused": {"false"}, "domain": {"b.example"}, "back": {"/"}}, nil); status != http.StatusSeeOther || len(s.queue.Pauses()) != 0 {
		t.Error(status, s.queue.Pauses())
	}
}

// The page of a domain pauses it, by way of a page that counts what waits for it.
func TestADomainIsPausedOnItsPage(t *testing.T) {
	s := newSite(t, 3, nil)
	const form = `<input type="hidden" name="domain" value="b.example">`
	if _, _, body := s.get("/queue?domain=b.example"); strings.Contains(body, form) {
		t.Errorf("without a login:\n%s", body)
	}
	if _, _, body := s.get("/pause?domain=b.example"); strings.Contains(body, "<form") || !strings.Contains(body, "3 messages wait for it") {
		t.Errorf("without a login:\n%s", body)
	}
	if _, to, _ := s.post("/pause", url.Values{"paused": {"true"}, "domain": {"b.example"}, "confirm": {"yes"}}, nil); !strings.HasPrefix(to, "/login") || len(s.queue.Pauses()) != 1 {
		t.Error(to, s.queue.Pauses())
	}
	if status, _ := s.login("act"); status != http.StatusSeeOther {
		t.Fatal(status)
	}
	if _, _, body := s.get("/queue"); strings.Contains(body, "Pause delivery to") {
		t.Errorf("the list of all domains:\n%s", body)
	}
	if _, _, body := s.get("/queue?domain=B.example."); !strings.Contains(body, form) || !strings.Contains(body, "Pause delivery to b.example …") {
		t.Errorf("the page of a domain:\n%s", body)
	}
	order := url.Values{"paused": {"true"}, "domain": {"b.example"}, "for": {"2h"}, "back": {"/queue?domain=b.example"}}
	status, to, body := s.post("/pause", order, nil)
	if status != http.StatusSeeOther || to != "/pause?back=%2Fqueue%3Fdomain%3Db.example&domain=b.example&for=2h" || len(s.queue.Pauses()) != 1 {
		t.Fatal(status, to, body, s.queue.Pauses())
	}
	_, _, body = s.get(to)
	for _, want := range []string{"Delivery to b.example pauses for 2h, and goes on by itself. 3 messages wait for it", `name="for" value="2h"`, `name="confirm" value="yes"`, `href="/queue?domain=b.example"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	order.Set("confirm", "yes")
	if status, to, body = s.post("/pause", order, nil); status != http.StatusSeeOther || to != "/queue?domain=b.example" {
		t.Fatal(status, to, body)
	}
	pauses := s.queue.Pauses()
	if len(pauses) != 2 || pauses[1].Domain != "b.example" || pauses[1].By != "web 127.0.0.1" || pauses[1].Until.IsZero() {
		t.Errorf("%+v", pauses)
	}
	if _, _, body := s.get(to); strings.Count(body, "Delivery to b.example is paused.") != 2 || strings.Contains(body, "Pause delivery to b.example") {
		t.Errorf("the page does not say it:\n%s", body)
	}
	s.post("/pause", url.Values{"paused": {"false"}, "domain": {"b.example"}, "back": {to}}, nil)
	if _, _, body := s.get(to); !strings.Contains(body, "Delivery to b.example goes on.") || len(s.queue.Pauses()) != 1 {
		t.Errorf("%v\n%s", s.queue.Pauses(), body)
	}
	s.post("/pause", url.Values{"paused": {"false"}, "domain": {"b.example"}, "back": {to}}, nil)
	if _, _, body := s.get(to); !strings.Contains(body, "There was no such pause.") {
		t.Error(body)
	}
	if _, _, body := s.get("/pause?domain=other.example"); !strings.Contains(body, "pauses until somebody resumes it. No message waits for it now.") {
		t.Error(body)
	}
}
