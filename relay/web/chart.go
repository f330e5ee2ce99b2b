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
// what failed below, in one scale.
type chart struct {
	Width, Height     int // of the picture, in its own units
	Axis              float64
	Bars              []bar
	MostGood, MostBad int64 // of one day
	First, Last       string
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
	dayWidth = 10
	height   = 160
	margin   = 10 // above and below: a bar is seen, however few its sessions are
	maxDays  = 100
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
	c := &chart{Height: height, Width: dayWidth * (int(last.Sub(first)/(24*time.Hour)) + 1), First: days[0].Day, Last: days[len(days)-1].Day}
	c.Width = max(c.Width, 30*dayWidth) // so that a few days do not fill the page
	for i := range days {
		c.MostGood, c.MostBad = max(c.MostGood, days[i].Good), max(c.MostBad, days[i].bad())
	}
	session := float64(height-2*margin) / float64(max(1, c.MostGood+c.MostBad))
	c.Axis = margin + session*float64(c.MostGood)
	for i := range days {
		if at, err := time.Parse(time.DateOnly, days[i].Day); err == nil && !at.Before(first) {
			c.day(&days[i], float64(dayWidth*int(at.Sub(first)/(24*time.Hour))), session, types)
		}
	}
	return c
}

// day draws the bars of one day, each session so high.
func (c *chart) day(d *chartDay, x, session float64, types []typeColour) {
	if d.Good > 0 {
		h := max(1, session*float64(d.Good))
		c.Bars = append(c.Bars, bar{X: x, Y: c.Axis - h, Width: dayWidth - 2, Height: h, Colour: -1, Title: fmt.Sprintf("%s: %d", d.Day, d.Good)})
	}
	y := c.Axis
	for _, t := range types {
		if n := d.Bad[t.Type]; n > 0 {
			h := max(1, session*float64(n))
			c.Bars = append(c.Bars, bar{X: x, Y: y, Width: dayWidth - 2, Height: h, Colour: t.Colour, Title: fmt.Sprintf("%s: %d %s", d.Day, n, t.Type)})
			y += h
		}
	}
}
