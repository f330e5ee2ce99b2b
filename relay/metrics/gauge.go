package metrics

import "github.com/prometheus/client_golang/prometheus"

// Gauge is a value that is asked for when the metrics are read.
type Gauge struct {
	Name, Help string
	// Label names what tells its values apart; "": there is one.
	Label string
	// Counter reports whether the values only grow.
	Counter bool
	// Read gives the values by the label's value, "" for the only one.
	Read func() map[string]float64
}

// Gauges adds gauges. It panics where a name is taken or is no name.
func (m *Metrics) Gauges(gauges ...Gauge) {
	for _, g := range gauges {
		var labels []string
		if g.Label != "" {
			labels = []string{g.Label}
		}
		m.registry.MustRegister(&gauge{prometheus.NewDesc(g.Name, g.Help, labels, nil), g})
	}
}

// gauge is a Gauge as the library asks for it. Its own GaugeFunc has one value
// only, and would read what several belong to once for each.
type gauge struct {
	desc *prometheus.Desc
	Gauge
}

// Describe implements prometheus.Collector.
func (g *gauge) Describe(to chan<- *prometheus.Desc) { to <- g.desc }

// Collect implements prometheus.Collector.
func (g *gauge) Collect(to chan<- prometheus.Metric) {
	kind := prometheus.GaugeValue
	if g.Counter {
		kind = prometheus.CounterValue
	}
	for label, v := range g.Read() {
		if g.Label == "" {
			to <- prometheus.MustNewConstMetric(g.desc, kind, v)
		} else {
			to <- prometheus.MustNewConstMetric(g.desc, kind, v, label)
		}
	}
}
