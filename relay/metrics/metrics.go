// Package metrics counts what the relay does and writes it in the text format
// of Prometheus. It knows nothing of mail: who counts is told a function.
//
// A label's values are of a closed set, and never what a stranger chose: a
// domain or an address would make a time series for each.
package metrics

import (
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// Metrics are the counters of one relay. Its methods may be called from many
// goroutines.
type Metrics struct {
	registry *prometheus.Registry

	messages, bytes prometheus.Counter
	refused         *prometheus.CounterVec
	recipients      *prometheus.CounterVec
	attempts        *prometheus.CounterVec
	delivery        prometheus.Histogram
	sessions        *prometheus.CounterVec
	starttls        *prometheus.CounterVec
	fetches         *prometheus.CounterVec
	reports         *prometheus.CounterVec
	received        *prometheus.CounterVec
	requests        *prometheus.CounterVec
	commits         prometheus.Histogram
	batches         prometheus.Histogram
}

// New returns counters at zero, and those of the Go process.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		messages: counter("stsrelay_accepted_messages_total", "Messages that were taken in."),
		bytes:    counter("stsrelay_accepted_bytes_total", "Octets of the messages that were taken in."),
		refused: counters("stsrelay_refused_total", "Replies to clients that refuse something, by code and enhanced status code.",
			"code", "status"),
		recipients: counters("stsrelay_recipients_total", "What attempts came to, counted by recipient, and why if they were not delivered to.",
			"verdict", "why"),
		attempts: counters("stsrelay_attempts_total", "Attempts to deliver a message to its recipients of one domain, and what guarded the session.",
			"verdict", "protection"),
		delivery: histogram("stsrelay_delivery_seconds", "Time from a message's arrival to its delivery to a domain.",
			0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4*3600, 24*3600, 5*24*3600),
		sessions: counters("stsrelay_sessions_out_total", "SMTP sessions to hosts that were opened, by version of TLS.",
			"tls"),
		starttls: counters("stsrelay_starttls_total", "How far sessions to hosts came towards TLS, whether mail could go over them or not.",
			"result"),
		fetches: counters("stsrelay_policy_fetches_total", "MTA-STS policies that were fetched from their hosts, by result.",
			"result"),
		reports: counters("stsrelay_reports_total", "TLS reports that came to an end at a destination, by way and result.",
			"how", "result"),
		received: counters("stsrelay_received_sessions_total", "Sessions that TLS reports of others count about domains of ours, by result.",
			"result"),
		requests: counters("stsrelay_publish_requests_total", "Requests to the publisher of policies: a policy, a challenge of a certificate authority, or not-found.",
			"result"),
		commits: histogram("stsrelay_store_commit_seconds", "Time that a commit of the store took, its fsync included.",
			0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
		batches: histogram("stsrelay_store_commit_batches", "Changes that shared a commit of the store.",
			1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
	}
	m.registry.MustRegister(m.messages, m.bytes, m.refused, m.recipients, m.attempts, m.delivery, m.sessions, m.starttls, m.fetches, m.reports, m.received, m.requests, m.commits, m.batches,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets ...float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

// Accepted counts a message that was taken in, of size octets.
func (m *Metrics) Accepted(size int64) {
	m.messages.Inc()
	m.bytes.Add(float64(size))
}

// Refused counts a reply to a client that refuses: its code and enhanced status,
// "452" and "4.3.1"; status may be "".
func (m *Metrics) Refused(code, status string) { m.refused.WithLabelValues(code, status).Inc() }

// PolicyRequest counts n answers of the publisher: "policy", "challenge" or "not-found". 0
// is as for Fetched.
func (m *Metrics) PolicyRequest(result string, n int) {
	m.requests.WithLabelValues(result).Add(float64(n))
}

// Recipients counts what became of n recipients in an attempt: the verdict
// ("delivered", "deferred", "bounced") and the reason, "" for deliveries.
func (m *Metrics) Recipients(verdict, why string, n int) {
	m.recipients.WithLabelValues(verdict, why).Add(float64(n))
}

// Attempt counts an attempt and what guarded its session.
func (m *Metrics) Attempt(verdict, protection string) {
	m.attempts.WithLabelValues(verdict, protection).Inc()
}

// Delivered notes how old a message was when a domain's host had taken it.
func (m *Metrics) Delivered(age time.Duration) { m.delivery.Observe(age.Seconds()) }

// Session counts a session to a host: what TLS there was ("none", "TLS 1.3").
func (m *Metrics) Session(tls string) { m.sessions.WithLabelValues(tls).Inc() }

// StartTLS counts n sessions to hosts by how far they came towards TLS:
// "established", "not-offered", "refused" or "broken". 0 is as for Fetched.
func (m *Metrics) StartTLS(result string, n int) {
	m.starttls.WithLabelValues(result).Add(float64(n))
}

// Fetched counts n fetches of policies that had a result. With 0 it makes that
// result known, so that its first time is an increase.
func (m *Metrics) Fetched(result string, n int) { m.fetches.WithLabelValues(result).Add(float64(n)) }

// Reported counts n TLS reports that were "sent" or have "failed" at a
// destination, and how they went there. 0 is as for Fetched.
func (m *Metrics) Reported(how, result string, n int) {
	m.reports.WithLabelValues(how, result).Add(float64(n))
}

// ReceivedSessions counts the sessions in a TLS report that came in. 0 is as for Fetched.
func (m *Metrics) ReceivedSessions(successful, failed int64) {
	m.received.WithLabelValues("successful").Add(float64(successful))
	m.received.WithLabelValues("failed").Add(float64(failed))
}

// Committed notes how many changes a commit of the store had and what it took.
func (m *Metrics) Committed(batches int, took time.Duration) {
	m.batches.Observe(float64(batches))
	m.commits.Observe(took.Seconds())
}

// Commits returns how many commits of the store there were, and what they took together.
func (m *Metrics) Commits() (n uint64, took time.Duration) {
	var v dto.Metric
	if err := m.commits.Write(&v); err != nil {
		return 0, 0
	}
	h := v.GetHistogram()
	return h.GetSampleCount(), time.Duration(h.GetSampleSum() * float64(time.Second))
}

// Write writes all metrics.
func (m *Metrics) Write(w io.Writer) {
	families, _ := m.registry.Gather() // an error is about one of them; the others are there
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return // the client has gone
		}
	}
}
