package metrics_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/stsrelay/stsrelay/relay/metrics"
)

// countAMessage is what the way of one message counts.
func countAMessage(m *metrics.Metrics) {
	m.Accepted(10 << 10)
	m.Recipients("delivered", "", 1)
	m.Attempt("delivered", "mta-sts")
	m.Delivered(20 * time.Millisecond)
	m.Committed(20, 500*time.Microsecond)
}

func TestCountingTakesNoMemory(t *testing.T) {
	m := metrics.New()
	if n := testing.AllocsPerRun(100, func() { countAMessage(m) }); n > 0 {
		t.Errorf("%v allocations a message", n)
	}
}

func TestWhatIsCountedIsWrittenAsPrometheusWantsIt(t *testing.T) {
	m := metrics.New()
	countAMessage(m)
	countAMessage(m)
	m.Refused("452", "4.3.1")
	m.Session("TLS 1.3")
	m.Fetched("ok", 2)
	m.Fetched("no-host", 0)
	m.Reported("https", "sent", 1)
	m.Gauges(
		metrics.Gauge{Name: "stsrelay_things", Help: "Things.", Read: func() map[string]float64 { return map[string]float64{"": 7} }},
		metrics.Gauge{Name: "stsrelay_kinds", Help: "Kinds.", Label: "kind", Read: func() map[string]float64 { return map[string]float64{"a": 1, "b": math.NaN()} }},
	)
	var b strings.Builder
	m.Write(&b)
	text := b.String()
	for _, want := range []string{
		"# HELP stsrelay_accepted_messages_total Messages that were taken in.\n# TYPE stsrelay_accepted_messages_total counter\nstsrelay_accepted_messages_total 2\n",
		"stsrelay_accepted_bytes_total 20480\n",
		"stsrelay_recipients_total{verdict=\"delivered\",why=\"\"} 2\n",
		"stsrelay_attempts_total{protection=\"mta-sts\",verdict=\"delivered\"} 2\n",
		"# TYPE stsrelay_delivery_seconds histogram\n", "stsrelay_delivery_seconds_bucket{le=\"0.025\"} 2\n", "stsrelay_delivery_seconds_count 2\n",
		"stsrelay_store_commit_seconds_sum 0.001\n", "stsrelay_store_commit_batches_sum 40\n",
		"stsrelay_refused_total{code=\"452\",status=\"4.3.1\"} 1\n",
		"stsrelay_sessions_out_total{tls=\"TLS 1.3\"} 1\n",
		"stsrelay_policy_fetches_total{result=\"ok\"} 2\n", "stsrelay_policy_fetches_total{result=\"no-host\"} 0\n",
		"stsrelay_reports_total{how=\"https\",result=\"sent\"} 1\n",
		"# HELP stsrelay_things Things.\n# TYPE stsrelay_things gauge\nstsrelay_things 7\n", "stsrelay_kinds{kind=\"a\"} 1\nstsrelay_kinds{kind=\"b\"} NaN\n",
		"process_resident_memory_bytes ", "go_goroutines ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint() // as promtool check metrics
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func BenchmarkCountAMessage(b *testing.B) {
	m := metrics.New()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			countAMessage(m)
		}
	})
}
