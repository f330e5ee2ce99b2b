package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func TestAgesAreShownAsQshapeDoes(t *testing.T) {
	list := []operator.DomainSummary{
		{Domain: "partner.example", Ages: queue.Ages{3, 0, 0, 12, 0, 0, 0, 0, 0, 419}},
		{Domain: "b.example", Ages: queue.Ages{1: 7}},
	}
	var out strings.Builder
	writeAges(&out, list, 80)
	want := `                  T 5 10 20 40 80 160 320 640 1280 1280+
          TOTAL 441 3  7  0 12  0   0   0   0    0   419
partner.example 434 3  0  0 12  0   0   0   0    0   419
      b.example   7 0  7  0  0  0   0   0   0    0     0
`
	if out.String() != want {
		t.Errorf("\n%s\nwant\n%s", out.String(), want)
	}

	// However much waits, a line has 80 characters.
	full := queue.Ages{}
	for i := range full {
		full[i] = 99_999_999
	}
	out.Reset()
	writeAges(&out, []operator.DomainSummary{{Domain: strings.Repeat("long.", 20) + "example", Ages: full}}, 80)
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}
