package web

import (
	"fmt"
	"testing"
)

func TestReportsAreDrawnByDay(t *testing.T) {
	if c := reportChart(nil, "failed"); c != nil {
		t.Errorf("a picture of nothing: %+v", c)
	}
	c := reportChart([]reportDay{{Day: "2026-11-28", Sessions: 10, Failures: 10}, {Day: "2026-11-26", Sessions: 140, Failures: 20}, {Day: "2026-11-25"}}, "failed")
	if c.First != "2026-11-25" || c.Last != "2026-11-28" || c.MostGood != 120 || c.MostBad != 20 {
		t.Errorf("%+v", c)
	}
	got := ""
	for _, b := range c.Bars {
		got += fmt.Sprintf("%g,%g,%g,%d %s\n", b.X, b.Y, b.Height, b.Colour, b.Title)
	}
	want := "10,10,120,-1 2026-11-26: 120\n10,130,20,0 2026-11-26: 20 failed\n30,130,10,0 2026-11-28: 10 failed\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
