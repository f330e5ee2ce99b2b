package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mox "github.com/mjl-/mox/tlsrpt"

	ourdkim "github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// NewWithKeys is a world with a clock and DKIM keys of its sender, which are
// published.
func NewWithKeys(t testing.TB, kinds ...string) *World {
	t.Helper()
	w := NewWithClock(t)
	w.Start(w.PublishKeys(kinds...))
	return w
}

// PublishKeys makes DKIM keys of the sender of reports, publishes them, and returns
// their tables of the configuration.
func (w *World) PublishKeys(kinds ...string) (toml string) {
	w.T.Helper()
	for i, kind := range kinds {
		data, err := ourdkim.Generate(kind)
		if err != nil {
			w.T.Fatal(err)
		}
		selector := fmt.Sprintf("s%d", i)
		file := filepath.Join(w.Dir, selector+".pem")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			w.T.Fatal(err)
		}
		k, err := ourdkim.Load("test.example", selector, file)
		if err != nil {
			w.T.Fatal(err)
		}
		record, err := k.Record("tlsrpt", "email") // go-msgauth wants "email"
		if err != nil {
			w.T.Fatal(err)
		}
		var parts []string
		for ; len(record) > 200; record = record[200:] {
			parts = append(parts, fmt.Sprintf("%q", record[:200]))
		}
		if err := w.DNS.Add(fmt.Sprintf("%s. 60 IN TXT %s %q", k.RecordName(), strings.Join(parts, " "), record)); err != nil {
			w.T.Fatal(err)
		}
		toml += fmt.Sprintf("[[dkim]]\ndomain = \"test.example\"\nselector = %q\nkey_file = %q\nsign = [\"reports\"]\n", selector, file)
	}
	return toml
}

// ReportHost adds a host that takes reports by HTTPS.
func (w *World) ReportHost(name string) *testnet.ReportHost {
	w.T.Helper()
	h, err := w.AddReportHost(name)
	if err != nil {
		w.T.Fatal(err)
	}
	return h
}

// Posted waits until a host has n reports and reads the last one strictly.
func (w *World) Posted(h *testnet.ReportHost, n int) *testnet.TLSReport {
	w.T.Helper()
	posts, err := h.Wait(w.Context(), n)
	if err != nil {
		w.T.Fatal(err)
	}
	return w.ReadReport(posts[n-1].Report)
}

// ReadReport reads a report strictly, as we and as mox read it.
func (w *World) ReadReport(data []byte) *testnet.TLSReport {
	w.T.Helper()
	r, err := testnet.ReadTLSReport(data)
	if err != nil {
		w.T.Fatalf("%v in %s", err, data)
	}
	other, err := mox.Parse(bytes.NewReader(data))
	if err != nil {
		w.T.Fatalf("mox: %v in %s", err, data)
	}
	if got, want := ShortOfMox(other), ShortReport(r); got != want {
		w.T.Errorf("mox reads %s, and we %s", got, want)
	}
	return r
}

// Report is the report of a domain about today, as it stands.
func (w *World) Report(domain string) *tlsrpt.Report {
	w.T.Helper()
	return w.ReportOn(tlsrpt.DayOf(time.Now()), domain)
}

// ReportOn is the report of a domain about a day, as it stands.
func (w *World) ReportOn(day, domain string) (out *tlsrpt.Report) {
	w.T.Helper()
	err := w.Relay.Operator().PreviewReports(w.T.Context(), day, "", func(r *tlsrpt.Report) bool {
		if r.Policies[0].Policy.Domain == domain {
			out = r
		}
		return true
	})
	if err != nil || out == nil {
		w.T.Fatalf("no report of %s: %v", domain, err)
	}
	return out
}

// ReportList is what the relay has of reports.
func (w *World) ReportList() (out []tlsrpt.Status) {
	w.T.Helper()
	err := w.Relay.Operator().Reports(w.T.Context(), "", "", func(s tlsrpt.Status) bool { out = append(out, s); return true })
	if err != nil {
		w.T.Fatal(err)
	}
	return out
}

// WaitForReport waits until the report of a domain is in a state.
func (w *World) WaitForReport(domain string, state tlsrpt.State) (st tlsrpt.Status) {
	w.T.Helper()
	w.WaitFor("the report of "+domain+" to be "+string(state), func(*queue.Queue) bool {
		for _, s := range w.ReportList() {
			if s.Domain == domain {
				st = s
				return s.State == state
			}
		}
		return false
	})
	return st
}

// Sessions are the sessions that the report of a domain counts.
func (w *World) Sessions(domain string) (good, failed int64) {
	w.T.Helper()
	for _, p := range w.Report(domain).Policies {
		good, failed = good+p.Summary.Successful, failed+p.Summary.Failed
	}
	return good, failed
}

// ShortReport is what a report counts: one line for each policy and each kind of
// failure, sorted by the report itself.
func ShortReport(r *testnet.TLSReport) string {
	var lines []string
	for _, p := range r.Policies {
		line := fmt.Sprintf("%s %s +%d -%d", *p.Policy.Type, *p.Policy.Domain, *p.Summary.Successful, *p.Summary.Failed)
		for _, d := range p.Details {
			line += fmt.Sprintf(" %d×%s", *d.Count, *d.Type)
			if d.MXHost != nil {
				line += "@" + *d.MXHost
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

// ShortOfMox is ShortReport of what mox has read.
func ShortOfMox(r *mox.ReportJSON) string {
	var lines []string
	for _, p := range r.Policies {
		line := fmt.Sprintf("%s %s +%d -%d", p.Policy.Type, p.Policy.Domain, p.Summary.TotalSuccessfulSessionCount, p.Summary.TotalFailureSessionCount)
		for _, d := range p.FailureDetails {
			line += fmt.Sprintf(" %d×%s", d.FailedSessionCount, d.ResultType)
			if d.ReceivingMXHostname != "" {
				line += "@" + d.ReceivingMXHostname
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}
