package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTablesFitIntoTheTerminalAndAreWholeElsewhere(t *testing.T) {
	long := strings.Repeat("a long reason ", 10)
	fill := func(width int) *table {
		tab := &table{width: width, rows: [][]string{{"ID", "FROM", "TO", "WHY"}}}
		tab.add("01KAR7M3QVJ0Z6ABCDEFGHJKMN", "anna@a-very-long-domain-of-a-sender.example", "kurt@another-long-domain.example", long)
		tab.add("01KAR7M3QVJ0Z6ABCDEFGHJKMP", "b@b.example", "c@c.example", "short")
		tab.add("01KAR7M3QWJ0Z6ABCDEFGHJKMP", "b@b.example", "c@c.example", "short")
		tab.shortIDs()
		return tab
	}
	var out bytes.Buffer
	fill(0).print(&out)
	for _, whole := range []string{strings.TrimSpace(long), "01KAR7M3QVJ0Z6ABCDEFGHJKMN", "anna@a-very-long-domain-of-a-sender.example"} {
		if !strings.Contains(out.String(), whole) {
			t.Errorf("without a terminal %q is cut:\n%s", whole, &out)
		}
	}
	out.Reset()
	fill(80).print(&out)
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSpace(line))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(out.String(), "01KAR7M3QVJ0Z6ABCDEFGHJKMN") { // two differ in the last character
		t.Errorf("an ID is ambiguous:\n%s", &out)
	}
	tab := &table{width: 80, rows: [][]string{{"ID"}}}
	tab.add("01KAR7M3QVJ0Z6ABCDEFGHJKMN")
	tab.add("01KAR7M3QWJ0Z6ABCDEFGHJKMN")
	if tab.shortIDs(); tab.rows[1][0] != "01KAR7M3QV" || tab.rows[2][0] != "01KAR7M3QW" {
		t.Errorf("%v", tab.rows)
	}
}
