package web

import (
	"fmt"
	"time"
)

// chartDay is what a chart shows of a day.
type chartDay struct {
	Day  string
	Good int64            // sessions that went well
	Bad  map[string]int64 // that failed, by type
}

func (d *chartDay) bad() (n int64) {
	for _, sessions := range d.Bad {
		n += sessions
	}
	return n
}

// chart is the picture of a time: a bar for each day, what went well above the axis and
// what failed below, each half with a scale of its own.
type chart struct {
	Width, Height, Axis int // of the picture, in its own units
	Bars                []bar
	MostGood, MostBad   int64 // of one day
	First, Last         string
}

// bar is one rectangle of a chart.
type bar struct {
	X, Y, Width, Height float64
	// Colour is -1 for what went well.
	Colour int
	Title  string
}

// The measures of a chart.
const (
	dayWidth   = 10
	goodHeight = 100
	badHeight  = 60
	maxDays    = 100
)

// newChart draws all days from the first to the last, those without a report too; nil
// where there are none.
func newChart(days []chartDay, types []typeColour) *chart {
	if len(days) == 0 {
		return nil
	}
	first, err := time.Parse(time.DateOnly, days[0].Day)
	last, err2 := time.Parse(time.DateOnly, days[len(days)-1].Day)
	if err != nil || err2 != nil {
		return nil
	}
	if from := last.AddDate(0, 0, 1-maxDays); from.After(first) {
		first = from
	}
	c := &chart{Axis: goodHeight, Height: goodHeight + badHeight, Width: dayWidth * (int(last.Sub(first)/(24*time.Hour)) + 1), First: days[0].Day, Last: days[len(days)-1].Day}
	c.Width = max(c.Width, 30*dayWidth) // so that a few days do not fill the page
	for i := range days {
		c.MostGood, c.MostBad = max(c.MostGood, days[i].Good), max(c.MostBad, days[i].bad())
	}
	for i := range days {
		if at, err := time.Parse(time.DateOnly, days[i].Day); err == nil && !at.Before(first) {
			c.day(&days[i], float64(dayWidth*int(at.Sub(first)/(24*time.Hour))), types)
		}
	}
	return c
}

// day draws the bars of one day.
func (c *chart) day(d *chartDay, x float64, types []typeColour) {
	if d.Good > 0 {
		h := scale(d.Good, c.MostGood, goodHeight)
		c.Bars = append(c.Bars, bar{X: x, Y: float64(c.Axis) - h, Width: dayWidth - 2, Height: h, Colour: -1, Title: fmt.Sprintf("%s: %d", d.Day, d.Good)})
	}
	y := float64(c.Axis)
	for _, t := range types {
		if n := d.Bad[t.Type]; n > 0 {
			h := scale(n, c.MostBad, badHeight)
			c.Bars = append(c.Bars, bar{X: x, Y: y, Width: dayWidth - 2, Height: h, Colour: t.Colour, Title: fmt.Sprintf("%s: %d %s", d.Day, n, t.Type)})
			y += h
		}
	}
}

// scale returns the height of n where most is as high as the half: at least 1, so that one
// session is seen.
func scale(n, most int64, half float64) float64 { return max(1, half*float64(n)/float64(most)) }
