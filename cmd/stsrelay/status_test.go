package main

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// The status says once why no mail is taken in: in the alert if there is one, else in a
// line of its own.
func TestStatusSaysWhyNoMailIsTakenInOnce(t *testing.T) {
	const full = "the disk is full"
	for _, tt := range []struct {
		name    string
		alerts  []alert.Alert
		problem bool
	}{
		{"not yet looked at", nil, true},
		{"an alert of it", []alert.Alert{{Key: alert.NotAccepting, What: "no mail is taken in: " + full}}, false},
		{"another alert that quotes it", []alert.Alert{{Key: "log", What: "lines were dropped: " + full}}, true},
	} {
		var b strings.Builder
		writeStatus(&b, &operator.Status{Problem: phrase.Quote(full), Alerts: tt.alerts})
		if got := b.String(); strings.Contains(got, "problem   "+full) != tt.problem || !strings.Contains(got, "NOT accepting") {
			t.Errorf("%s:\n%s", tt.name, got)
		}
	}
}
