package relay

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay/metrics"
)

// gauges are the metrics that are states, not counts.
func (r *Relay) gauges() {
	state := func(name string, read func() float64) metrics.Gauge { return metrics.Gauge{Name: name, Read: read} }
	r.metrics.Gauges(
		state(fmt.Sprintf("stsrelay_info{version=%q}", r.o.Version), func() float64 { return 1 }),
		state("stsrelay_uptime_seconds", func() float64 { return time.Since(r.started).Seconds() }),
		state("stsrelay_accepting", func() float64 { return one(r.queue.Accepting() == nil) }),
		state("stsrelay_delivering", func() float64 { return one(!r.queue.Paused()) }),
		state("stsrelay_queue_messages", func() float64 { return float64(r.queue.Counts().Messages) }),
		state("stsrelay_queue_recipients", func() float64 { return float64(r.queue.Counts().Recipients) }),
		state("stsrelay_queue_held", func() float64 { return float64(r.queue.Counts().Held) }),
		state(`stsrelay_sessions{direction="in"}`, func() float64 { return float64(r.ingress.Sessions()) }),
		state(`stsrelay_sessions{direction="out"}`, func() float64 { return float64(r.delivery.Sessions()) }),
	)
}

func one(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

// listenHTTP binds the address for the web page, health and metrics, where one is set.
func (r *Relay) listenHTTP(c *config.Config) error {
	if c.Admin.HTTP == "" {
		return nil
	}
	var token []byte
	if c.Admin.TokenFile != "" {
		var err error
		if token, err = os.ReadFile(c.Admin.TokenFile); err != nil {
			return fmt.Errorf("admin.token_file: %w", err)
		}
		if token = bytes.TrimSpace(token); len(token) == 0 {
			return fmt.Errorf("admin.token_file: %s is empty", c.Admin.TokenFile)
		}
	}
	return r.admin.ListenHTTP(c.Admin.HTTP, string(token))
}
