package main

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// Why no mail is taken in is said once: as a trouble where that is known already, else by
// itself.
func TestStatusSaysWhyNoMailIsTakenInOnce(t *testing.T) {
	const full = "the disk is full"
	for _, tt := range []struct {
		name     string
		troubles []adminapi.Trouble
		problem  bool
	}{
		{"not yet looked at", nil, true},
		{"a trouble of it", []adminapi.Trouble{{Key: adminapi.TroubleAccepting, What: "no mail is taken in: " + full}}, false},
		{"another trouble that quotes it", []adminapi.Trouble{{Key: "log", What: "lines were dropped: " + full}}, true},
	} {
		var b strings.Builder
		writeStatus(&b, &adminapi.Status{Problem: full, Troubles: tt.troubles})
		if got := b.String(); strings.Contains(got, "problem   "+full) != tt.problem || !strings.Contains(got, "NOT accepting") {
			t.Errorf("%s:\n%s", tt.name, got)
		}
	}
}
