package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// counter is a relay that counts sessions, and is killed and started again.
type counter struct {
	t      *testing.T
	name   string
	mu     sync.Mutex
	store  *postgres.Store
	report *tlsrpt.Reporter
}

func (c *counter) open() {
	o := options(c.t, c.name)
	o.Token = "the folder of " + c.name
	s, err := postgres.Open(context.Background(), o)
	if err != nil {
		c.t.Error(err)
		return
	}
	r, err := tlsrpt.New(tlsrpt.Options{Store: s})
	if err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store, c.report = s, r
}

// count counts a session, and reports whether that is durable.
func (c *counter) count(r tlsrpt.Result) bool {
	c.mu.Lock()
	s, report := c.store, c.report
	c.mu.Unlock()
	var b store.Batch
	report.Count(&b, r)
	err := store.Commit(context.Background(), s, &b)
	if err != nil && !errors.Is(err, store.ErrFailed) {
		c.t.Error(err)
	}
	return err == nil
}

// reporting opens the space in which the reports are made, as the relay name.
func reporting(t *testing.T, name, space string, now time.Time) (*postgres.Store, *tlsrpt.Reporter, *[]tlsrpt.Mail) {
	t.Helper()
	o := options(t, name)
	o.Holder, o.Space, o.Token = name, space, "the folder of "+space
	s, err := postgres.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var mails []tlsrpt.Mail
	r, err := tlsrpt.New(tlsrpt.Options{
		Store: s, Now: func() time.Time { return now },
		Neighbors: func(ctx context.Context) (list []tlsrpt.Neighbor, err error) {
			all, err := s.Neighbors(ctx)
			for _, n := range all {
				list = append(list, n)
			}
			return list, err
		},
		Identity: func() tlsrpt.Identity {
			return tlsrpt.Identity{Organization: "Example", Contact: "c@sender.example", Sender: "tls@sender.example"}
		},
		LookupTXT: func(context.Context, string) ([]string, error) {
			return []string{"v=TLSRPTv1; rua=https://r.example/"}, nil
		},
		Post: func(_ context.Context, _ string, body []byte) error {
			mails = append(mails, tlsrpt.Mail{Body: body})
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, r, &mails
}

// The sum over all relays is exact, though they are killed and their counts are gathered
// while they count; a domain gets one report a day, with the same id after the relay that
// makes the reports has died.
func TestAFleetSendsOneReportADomainAndDayWithAllThatWasCounted(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	domains := []string{"a.example", "b.example", "c.example"}
	policy := tlsrpt.Policy{Type: tlsrpt.PolicyNone}
	failure := &tlsrpt.Failure{Type: tlsrpt.StartTLSNotSupported, MXHost: "mx.example"}
	relays := []*counter{{t: t, name: "count-a"}, {t: t, name: "count-b"}, {t: t, name: "count-c"}}
	var mu sync.Mutex
	counted := map[string][2]int64{}
	stop := make(chan struct{})
	var work sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); work.Wait() })
	for n, c := range relays {
		c.open()
		t.Cleanup(func() { end(); _ = c.store.Close() })
		random := rand.New(rand.NewPCG(uint64(n), 1))
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := tlsrpt.Result{Domain: domains[random.IntN(len(domains))], Policy: policy, At: noon}
				if random.IntN(4) == 0 {
					r.Failure = failure
				}
				if c.count(r) {
					mu.Lock()
					sum := counted[r.Domain]
					if r.Failure == nil {
						sum[0]++
					} else {
						sum[1]++
					}
					counted[r.Domain] = sum
					mu.Unlock()
				}
			}
		})
	}
	first, gathering, _ := reporting(t, "count-a", "reports-1", noon)
	sessions := func() (n int64) {
		mu.Lock()
		defer mu.Unlock()
		for _, sum := range counted {
			n += sum[0] + sum[1]
		}
		return n
	}
	for round := range 12 {
		before := sessions()
		await.Until(t, "more sessions that are counted", func() bool { return sessions() >= before+20 })
		// The relay of this round dies: another process with its folder takes its space.
		relays[round%3].open()
		if err := gathering.Preview(t.Context(), "2026-11-23", "", func(*tlsrpt.Report) bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	end()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	// Another relay makes the reports of the day that is over.
	_, reporter, mails := reporting(t, "count-b", "reports-1", noon.Add(24*time.Hour))
	list := func() (out []tlsrpt.Status) {
		if err := reporter.SendNow(t.Context(), "2026-11-23", "", func(s tlsrpt.Status) bool { out = append(out, s); return true }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	sent := list()
	if len(sent) != len(domains) || len(*mails) != len(domains) {
		t.Errorf("%d reports, %d of them sent; want %d", len(sent), len(*mails), len(domains))
	}
	total := int64(0)
	for _, s := range sent {
		want := counted[s.Domain]
		total += want[0] + want[1]
		if s.Sessions != want[0]+want[1] || s.Failures != want[1] || s.State != tlsrpt.Sent {
			t.Errorf("%s: %d sessions, %d failed, %s; counted %v", s.Domain, s.Sessions, s.Failures, s.State, want)
		}
	}
	t.Logf("%d sessions counted by %d relays", total, len(relays))
	if again := list(); len(*mails) != len(domains) || fmt.Sprint(again) != fmt.Sprint(sent) {
		t.Errorf("asked again: %v; before %v", again, sent)
	}
}
