package web

import (
	"fmt"
	"time"

	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// traffic is what went through the relay in the last hours, as numbers and as pictures.
type traffic struct {
	Day, Hour operator.Hour // sums of all hours, and the present one
	In, Out   bars
	Proofs    []proofShare
}

// bars is a picture with a bar for each hour. Its lengths are in units of the picture.
type bars struct {
	Width, Height int
	Bars          []hourBar
	Most          int // what the highest one stands for
	From, To      time.Time
}

// hourBar is one bar, and a line of text for it.
type hourBar struct {
	X, Y, Width, Height int
	Text                string
}

// proofShare is the part of the deliveries that one proof guarded.
type proofShare struct {
	Proof    history.Proof
	Count    int
	Percent  string
	X, Width int // of its part of the bar, of 1000
}

const (
	barWidth, barGap = 10, 2
	barsHeight       = 60
)

// newTraffic returns hours as numbers and pictures.
func newTraffic(hours []operator.Hour) *traffic {
	t := &traffic{Day: operator.Hour{ByProof: make(map[history.Proof]int)}}
	for i := range hours {
		h := &hours[i]
		t.Day.Accepted += h.Accepted
		t.Day.Delivered += h.Delivered
		t.Day.Deferred += h.Deferred
		t.Day.Bounced += h.Bounced
		for proof, n := range h.ByProof {
			t.Day.ByProof[proof] += n
		}
		t.Hour = *h
	}
	t.In = newBars(hours, func(h *operator.Hour) int { return h.Accepted })
	t.Out = newBars(hours, func(h *operator.Hour) int { return h.Delivered })
	at := 0
	for _, proof := range history.Proofs {
		n := t.Day.ByProof[proof]
		if n == 0 {
			continue
		}
		width := max(4, 1000*n/t.Day.Delivered)
		t.Proofs = append(t.Proofs, proofShare{Proof: proof, Count: n, Percent: fmt.Sprintf("%.1f %%", 100*float64(n)/float64(t.Day.Delivered)),
			X: at, Width: width})
		at += width
	}
	return t
}

func newBars(hours []operator.Hour, count func(*operator.Hour) int) bars {
	b := bars{Width: max(1, len(hours)) * (barWidth + barGap), Height: barsHeight}
	for i := range hours {
		b.Most = max(b.Most, count(&hours[i]))
	}
	for i := range hours {
		n := count(&hours[i])
		height := 0
		if n > 0 {
			height = max(1, barsHeight*n/b.Most)
		}
		b.Bars = append(b.Bars, hourBar{X: i * (barWidth + barGap), Y: barsHeight - height, Width: barWidth, Height: height,
			Text: fmt.Sprintf("%s: %d", hours[i].At.Format("15:04"), n)})
	}
	if len(hours) > 0 {
		b.From, b.To = hours[0].At, hours[len(hours)-1].At
	}
	return b
}
