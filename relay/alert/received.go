package alert

import (
	"context"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Received is what came up in the last days in the TLS reports that others send.
type Received struct {
	// Mails counts mails to the drop that have no report, Dropped what was beyond the bounds
	// of a day.
	Mails, Dropped int
	Failures       []ReceivedFailure
}

// ReceivedFailure is a way of failing that senders have not reported before.
type ReceivedFailure struct {
	Domain, Type string
	MX           string // "" where no host is named
	Sessions     int64
	Remedy       phrase.Phrase
}

// received tells what came up in TLS reports.
func (c *Checks) received(ctx context.Context) (list []Alert) {
	r := c.Received(ctx)
	if r.Mails > 0 {
		list = append(list, say("received mails", "received mails", r.Mails))
	}
	if r.Dropped > 0 {
		list = append(list, say("received dropped", "received dropped", r.Dropped))
	}
	for _, f := range r.Failures[:min(len(r.Failures), maxAlerts)] {
		at := f.Domain
		if f.MX != "" {
			at += ", " + f.MX
		}
		list = append(list, say("received "+f.Domain+" "+f.Type+" "+f.MX, "received failure", human.Shorten(at, 200), human.Shorten(f.Type, 60), f.Sessions, wordsOf(f.Remedy)))
	}
	return list
}
