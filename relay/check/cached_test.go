package check

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts"
)

// known is what a relay's cache knows of a domain after it has fetched a policy.
func known(t *testing.T, domain, mx string, maxAge time.Duration) []byte {
	t.Helper()
	m, err := sts.NewManager(sts.ManagerOptions{
		Store: stored{}, Now: func() time.Time { return today.Add(-time.Hour) },
		LookupTXT: func(context.Context, string, bool) ([]string, error) { return []string{"v=STSv1; id=1"}, nil },
		Fetch: func(context.Context, string) (*sts.Fetched, error) {
			return &sts.Fetched{Policy: &sts.Policy{Mode: sts.ModeEnforce, MaxAge: maxAge, MX: []string{mx}}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Lookup(t.Context(), domain); err != nil {
		t.Fatal(err)
	}
	value, ok := m.Stored(domain)
	if !ok {
		t.Fatal("nothing is known")
	}
	return value
}

// What the running relay knows holds for as long as it lasts, whether the record
// is gone, cannot be had, or nobody answers in time.
func TestACachedPolicyIsInForceUntilItExpires(t *testing.T) {
	const d = "example.org"
	for _, tt := range []struct {
		name        string
		maxAge      time.Duration
		setup       func(w *world)
		deliverable bool
		inForce     bool
	}{
		{"no record", 24 * time.Hour, func(*world) {}, false, true},
		{"SERVFAIL", 24 * time.Hour, func(w *world) { w.DNS.Fail("_mta-sts."+d, "TXT", testnet.ServFail) }, false, true},
		{"silence", 24 * time.Hour, func(w *world) { w.DNS.Fail("_mta-sts."+d, "TXT", testnet.Silence) }, false, true},
		{"no record, expired", time.Minute, func(*world) {}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.host("mx1."+d, testnet.Faults{NoStartTLS: true})
			w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
			tt.setup(w)
			w.options.Timeout = time.Second
			w.options.Stored = func(_ context.Context, domain string) []byte { return known(t, domain, "mx1."+d, tt.maxAge) }
			r := Run(t.Context(), d, w.options)
			if r.Outcome.Deliverable != tt.deliverable || r.Cached == nil || r.Cached.InForce != tt.inForce {
				t.Errorf("%s; cached: %+v", r.Outcome.Text, r.Cached)
			}
			if says := strings.HasSuffix(r.Outcome.Text.String(), "; the running relay goes by the policy in its cache, whatever is published now"); says != tt.inForce {
				t.Error(r.Outcome.Text)
			}
		})
	}
}
