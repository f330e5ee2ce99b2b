// Package metrics counts what the relay does and writes it in the text format
// of Prometheus. It knows nothing of mail: who counts is told a function.
package metrics

import (
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"
)

// Metrics are the counters of one relay. Its methods may be called from many
// goroutines.
type Metrics struct{ set *metrics.Set }

// New returns counters at zero.
func New() *Metrics { return &Metrics{set: metrics.NewSet()} }

// Gauge is a value that is asked for when the metrics are read.
type Gauge struct {
	Name string // with labels: stsrelay_sessions{direction="in"}
	Read func() float64
}

// Gauges adds gauges.
func (m *Metrics) Gauges(gauges ...Gauge) {
	for _, g := range gauges {
		m.set.NewGauge(g.Name, g.Read)
	}
}

// Accepted counts a message that was taken in, of size octets.
func (m *Metrics) Accepted(size int64) {
	m.set.GetOrCreateCounter("stsrelay_accepted_messages_total").Inc()
	m.set.GetOrCreateCounter("stsrelay_accepted_bytes_total").AddInt64(size)
}

// Refused counts a reply to a client that refuses: its code and enhanced status,
// "452" and "4.3.1"; status may be "".
func (m *Metrics) Refused(code, status string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("stsrelay_refused_total{code=%q,status=%q}", code, status)).Inc()
}

// Attempted counts what became of n recipients in an attempt: the verdict
// ("delivered", "deferred", "bounced") and the reason, "" for deliveries.
func (m *Metrics) Attempted(verdict, why string, n int) {
	m.set.GetOrCreateCounter(fmt.Sprintf("stsrelay_recipients_total{verdict=%q,why=%q}", verdict, why)).Add(n)
}

// Session counts a session to a host: what TLS there was ("none", "TLS 1.3").
func (m *Metrics) Session(tls string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("stsrelay_sessions_out_total{tls=%q}", tls)).Inc()
}

// Write writes all metrics, and those of the Go process.
func (m *Metrics) Write(w io.Writer) {
	m.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}
