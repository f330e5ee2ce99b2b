package main

import (
	"strings"
	"testing"
)

func TestOnlyAYesIsOne(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes\r\n": true, "n\n": false, "\n": false, "": false, "y": false, "yesterday\n": false} {
		var asked strings.Builder
		a := &app{in: strings.NewReader(answer), err: &asked}
		if got := a.confirm("Go on? "); got != want || asked.String() != "Go on? " || a.interactive() {
			t.Errorf("%q: %v, asked %q", answer, got, asked.String())
		}
	}
}
