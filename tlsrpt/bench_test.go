package tlsrpt

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/bench/cputime"
	"github.com/stsrelay/stsrelay/internal/store"
)

// All reports of a day with 100,000 domains of three policies each, from the
// record's lookup to the note that it was accepted; no network. Numbers: time
// and the highest resident memory. TLSRPT_BENCH_DOMAINS makes it smaller.
func BenchmarkReportsOfADay(b *testing.B) {
	domains := 100_000
	if n, err := strconv.Atoi(os.Getenv("TLSRPT_BENCH_DOMAINS")); err == nil {
		domains = n
	}
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		s := openStore(b, dir)
		fill(b, s, domains)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		s = openStore(b, dir)
		debug.FreeOSMemory()
		sent := make(chan struct{}, workers)
		r, err := New(Options{
			Store:    s,
			Identity: func() Identity { return Identity{"Example", "postmaster@sender.example", "tls@sender.example"} },
			LookupTXT: func(context.Context, string) ([]string, error) {
				return []string{"v=TLSRPTv1; rua=mailto:x@r.example"}, nil
			},
			Sign: func(_ string, write func(io.Writer) error) ([]byte, error) { return nil, write(io.Discard) },
			Queue: func(_ *Mail, also func(*store.Batch, string)) error {
				var batch store.Batch
				also(&batch, "x")
				done := make(chan error, 1)
				s.Submit(&batch, func(err error) { done <- err })
				err := <-done
				sent <- struct{}{}
				return err
			},
			Now: func() time.Time { return nextDay },
		})
		if err != nil {
			b.Fatal(err)
		}
		before := rss(b)
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error, 1)
		b.StartTimer()
		start, cpu := time.Now(), cputime.Used()
		go func() { done <- r.Run(ctx) }()
		peak := before
		for i := range domains {
			<-sent
			if i%1000 == 0 {
				peak = max(peak, rss(b))
			}
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/day")
		b.ReportMetric((cputime.Used() - cpu).Seconds(), "cpu-s/day")
		b.ReportMetric(float64(before)/1024, "MiB-before")
		b.ReportMetric(float64(peak)/1024, "MiB-peak")
		stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func fill(b *testing.B, s store.Store, domains int) {
	b.Helper()
	tally := NewTally(nil)
	policies := []Policy{
		{Type: PolicyNone},
		{Type: PolicySTS, Strings: []string{"version: STSv1", "mode: enforce", "mx: mx1.a.example", "mx: mx2.a.example", "max_age: 604800"}, MXHosts: []string{"mx1.a.example", "mx2.a.example"}},
		{Type: PolicyTLSA, Strings: []string{"3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}, MXHosts: []string{"mx1.a.example"}},
	}
	for i := 0; i < domains; i += 100 {
		var batch store.Batch
		for d := i; d < min(i+100, domains); d++ {
			for p, policy := range policies {
				r := Result{Domain: fmt.Sprintf("domain-%d.example", d), Policy: policy, At: noon}
				tally.Count(&batch, r)
				if p > 0 {
					r.Failure = &Failure{CertificateNotTrusted, "192.0.2.1", "mx1.a.example", "mx1.a.example", "192.0.2.2", "self-signed"}
					tally.Count(&batch, r)
				}
			}
		}
		if err := store.Commit(b.Context(), s, &batch); err != nil {
			b.Fatal(err)
		}
	}
}

// rss is the anonymous resident memory in KiB: files that are mapped are the
// system's to take back.
func rss(b *testing.B) int {
	b.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc")
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}
