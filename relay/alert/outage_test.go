package alert

import (
	"fmt"
	"testing"
	"time"
)

// step is what happens some time after the step before: results of attempts to domains.
type step struct {
	after   time.Duration
	domains string // one letter each; a capital one is delivered to
	code    string
}

func TestAnOutageIsThatEverythingFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		steps []step
		then  time.Duration
		want  string // domains, attempts and reason; "" for none
	}{
		{"nothing was tried", nil, time.Hour, ""},
		{"all domains fail for long", []step{{0, "AB", ""}, {time.Hour, "abc", "dns"}, {5 * time.Minute, "abc", "dns"}}, 10 * time.Minute, "3 6 dns since 60"},
		{"they have not for long", []step{{0, "AB", ""}, {time.Hour, "abc", "dns"}}, 9 * time.Minute, ""},
		{"the retries have become rare", []step{{0, "abc", "dns"}}, 3 * time.Hour, "3 3 dns since 0"},
		{"one domain is no outage", []step{{0, "a", "connect"}, {time.Minute, "a", "connect"}}, time.Hour, ""},
		{"something is delivered", []step{{0, "abc", "dns"}, {8 * time.Minute, "D", ""}}, 10 * time.Minute, ""},
		{"domains that failed while others did not", []step{{0, "ab", "connect"}, {time.Hour, "C", ""}, {time.Minute, "ab", "connect"}}, time.Hour, ""},
		{"and those that fail since", []step{{0, "ab", "connect"}, {time.Hour, "C", ""}, {time.Minute, "abcd", "dns"}}, time.Hour, "2 4 dns since 61"},
		{"two that fail now, and one that failed two days ago", []step{{0, "a", "dns"}, {48 * time.Hour, "bc", "connect"}}, time.Minute, ""},
		{"two that fail now, one of which failed two days ago", []step{{0, "a", "dns"}, {48 * time.Hour, "ab", "connect"}}, time.Minute, ""},
		{"they still fail", []step{{0, "a", "dns"}, {48 * time.Hour, "bc", "connect"}}, 10 * time.Minute, "2 3 connect since 2880"},
		{"a few hosts that put mail off", []step{{0, "abcd", "rcpt"}}, time.Hour, ""},
		{"many that refuse all", []step{{0, "abcde", "content"}}, time.Hour, "5 5 content since 0"},
		{"most of them count", []step{{0, "abc", "dns"}, {0, "de", "connect"}}, time.Hour, "5 5 dns since 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
			now := start
			traffic := NewTraffic(func() time.Time { return now })
			for _, s := range tt.steps {
				now = now.Add(s.after)
				for _, d := range s.domains {
					n := Counts{Deferred: 1}
					if d < 'a' {
						n, d = Counts{Delivered: 1}, d+'a'-'A'
					}
					traffic.Add(string(d)+".example", s.code, n)
				}
			}
			now = now.Add(tt.then)
			got := ""
			if o := traffic.Outage(); o != nil {
				got = fmt.Sprintf("%d %d %s since %.0f", o.Domains, o.Attempts, o.Reason, o.Since.Sub(start).Minutes())
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheLastFifteenMinutes(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	traffic := NewTraffic(func() time.Time { return now })
	traffic.Add("a.example", "", Counts{Delivered: 2})
	now = now.Add(10 * time.Minute)
	traffic.Add("a.example", "dns", Counts{Deferred: 3, Bounced: 1})
	for after, want := range map[time.Duration]Counts{0: {2, 3, 1}, 5 * time.Minute: {2, 3, 1}, 6 * time.Minute: {0, 3, 1}, 16 * time.Minute: {}, 24 * time.Hour: {}, -time.Hour: {}} {
		was := now
		now = now.Add(after)
		if got := traffic.Last(); got != want {
			t.Errorf("%s later: %+v, want %+v", after, got, want)
		}
		now = was
	}
}

// A domain is forgotten a day after its last failure, and only so many are remembered.
func TestTrafficIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	traffic := NewTraffic(func() time.Time { return now })
	for i := range maxFailing + 10 {
		traffic.Add(fmt.Sprintf("d%d.example", i), "dns", Counts{Deferred: 1})
	}
	now = now.Add(time.Hour)
	if o := traffic.Outage(); o == nil || o.Domains != maxFailing {
		t.Errorf("%+v", o)
	}
	now = now.Add(25 * time.Hour)
	if o := traffic.Outage(); o != nil || len(traffic.failing) != 0 {
		t.Errorf("%+v, %d domains", o, len(traffic.failing))
	}
}
