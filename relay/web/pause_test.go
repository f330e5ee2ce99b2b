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
	if status, _, body := s.post("/pause", url.Values{"paused": {"true"}, "domain": {"b.example"}, "for": {"2h"}, "back": {"/"}}, nil); status != http.StatusSeeOther {
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
	if status, _, _ := s.post("/pause", url.Values{"paused": {"true"}, "for": {"soon"}, "back": {"/"}}, nil); status != http.StatusBadRequest {
		t.Error(status)
	}
}
