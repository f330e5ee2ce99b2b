package sts_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/sts"
)

// hold makes fetches wait until the returned function is called.
func (l *lab) hold() (release func()) {
	l.gate, l.inside = make(chan struct{}), make(chan struct{}, 200)
	return func() { close(l.gate) }
}

// runs starts the manager's Run and ends it with the test.
func (l *lab) runs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.manager.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestAHundredFirstDeliveriesShareOneRecordLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		release := l.hold()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { l.lookup() })
		}
		synctest.Wait()
		release()
		wg.Wait()
		if records, fetches := l.lookups.Load(), l.fetches.Load(); records != 1 || fetches != 1 {
			t.Errorf("%d record lookups, %d fetches", records, fetches)
		}
	})
}

func TestConcurrentRefetchesShareTheirOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.lookup()
		l.body = strings.Replace(l.body, "mx1.", "mx2.", 1)
		release := l.hold()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				r, changed, err := l.manager.Refetch(t.Context(), domain)
				if err != nil || !changed || r.Policy.MX[0] != "mx2.example.org" {
					t.Errorf("%+v, %t, %v", r, changed, err)
				}
			})
		}
		synctest.Wait()
		release()
		wg.Wait()
		l.want("together", l.lookup(), "2", 2)
		if e, _ := l.manager.Show(domain); !e.ChangedAt.Equal(l.now) || !e.RefetchedAt.Equal(l.now) {
			t.Errorf("it is not shown: %+v", e)
		}
	})
}

func TestTheFiveMinutesBetweenRefetchesSurviveARestart(t *testing.T) {
	l := newLab(t)
	l.lookup()
	l.fetchErr = errors.New("dead")
	r, changed, err := l.manager.Refetch(t.Context(), domain)
	if err != nil || changed || failureType(r) != sts.PolicyFetchError {
		t.Errorf("%+v, %t, %v", r, changed, err)
	}
	l.want("the first fails", r, "1", 2)
	l.restart()
	l.now = l.now.Add(4 * time.Minute)
	r, _, _ = l.manager.Refetch(t.Context(), domain)
	l.want("within five minutes", r, "1", 2)
}

func TestARefetchWithoutAPolicyInForceAsksNobody(t *testing.T) {
	l := newLab(t)
	r, changed, err := l.manager.Refetch(t.Context(), domain)
	if err != nil || changed || l.lookups.Load() != 0 {
		t.Errorf("%t, %v, %d lookups", changed, err, l.lookups.Load())
	}
	l.want("nothing cached", r, "", 0)
}

// The relay must not bounce before it has looked past the DNS cache.
func TestRecheckSeesTheNewIDThatTheDNSCacheHides(t *testing.T) {
	published := "1"
	var fresh []bool
	m, err := sts.NewManager(sts.ManagerOptions{
		Store: &memory{values: make(map[string][]byte)},
		LookupTXT: func(_ context.Context, name string, f bool) ([]string, error) {
			if name != "_mta-sts."+domain {
				t.Errorf("%s was asked", name) // a parent's policy is never used
			}
			fresh = append(fresh, f)
			if f {
				return []string{"v=STSv1; id=" + published}, nil
			}
			return []string{"v=STSv1; id=1"}, nil
		},
		Fetch: func(context.Context, string) (*sts.Fetched, error) {
			return &sts.Fetched{Policy: &sts.Policy{Mode: sts.ModeEnforce, MaxAge: time.Hour, MX: []string{"mx" + published + ".example.org"}}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Lookup(t.Context(), domain); err != nil {
		t.Fatal(err)
	}
	published = "2"
	if r, err := m.Lookup(t.Context(), domain); err != nil || r.ID != "1" {
		t.Errorf("Lookup: %+v, %v", r, err)
	}
	if r, err := m.Recheck(t.Context(), domain); err != nil || r.ID != "2" || r.Policy.MX[0] != "mx2.example.org" || !r.Fresh {
		t.Errorf("Recheck: %+v, %v", r, err)
	}
	if !slices.Equal(fresh, []bool{false, false, true}) {
		t.Errorf("past the DNS cache: %t", fresh)
	}
}

func TestAPolicyOfMaxAgeZeroReplacesTheOldOneForGood(t *testing.T) {
	l := newLab(t)
	l.lookup()
	l.publish("2", "none")
	l.body = strings.Replace(l.body, "604800", "0", 1)
	l.want("the new one", l.lookup(), "2", 2)
	l.restart()
	l.fetchErr = errors.New("dead")
	l.publish("3", "none")
	l.want("the old one does not come back", l.lookup(), "", 3)
}

func TestAFlappingRecordDoesNotEndTheBackOff(t *testing.T) {
	l := newLab(t)
	l.fetchErr = errors.New("dead")
	l.want("announced", l.lookup(), "", 1)
	l.txtErr = errors.New("SERVFAIL")
	r := l.lookup()
	l.want("nobody knows", r, "", 1)
	if !r.Unknown || !strings.Contains(r.Why, "SERVFAIL") || !strings.Contains(r.Why, "dead") {
		t.Errorf("%+v", r)
	}
	l.txtErr = nil
	l.want("announced again", l.lookup(), "", 1)
}

func TestAnExpiredPolicyAndNoRecordLookupIsUnknown(t *testing.T) {
	l := newLab(t)
	l.lookup()
	l.now = l.now.Add(8 * 24 * time.Hour)
	l.txtErr, l.fetchErr = errors.New("timeout"), errors.New("dead")
	r := l.lookup()
	l.want("expired", r, "", 2)
	if !r.Unknown || r.Failure != nil {
		t.Errorf("%+v", r)
	}
}

func TestAClockThatWasYearsAheadKeepsNoPolicyForYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.now = l.now.AddDate(5, 0, 0)
		l.lookup()
		l.now = l.now.AddDate(-5, 0, 0)
		l.fetchErr = errors.New("dead")
		l.runs(t)
		l.want("set back", l.lookup(), "1", 1)
		if e, _ := l.manager.Show(domain); e.ExpiresAt.After(l.now.Add(7 * 24 * time.Hour)) {
			t.Errorf("it is to end at %s", e.ExpiresAt)
		}
		time.Sleep(2 * time.Minute) // Run finds it
		synctest.Wait()
		l.now = l.now.Add(8 * 24 * time.Hour)
		if r := l.lookup(); r.Policy != nil {
			t.Errorf("in force eight days later: %+v", r)
		}
	})
}

func TestAPolicyForAYearIsRefreshedDailyAndAShortOneBeforeItEnds(t *testing.T) {
	for maxAge, latest := range map[string]time.Duration{"31557600": 31 * time.Hour, "3600": 50 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			start := time.Now()
			l.clock = time.Now
			l.body = strings.Replace(l.body, "604800", maxAge, 1)
			l.lookup()
			l.runs(t)
			for l.fetches.Load() == 1 && time.Since(start) < 48*time.Hour {
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			if got := time.Since(start); got > latest {
				t.Errorf("max_age %s: refreshed after %s", maxAge, got)
			}
		})
	}
}

// The text of a stranger may have 64 KiB. What is applied of it is what is kept.
func TestWhatIsAppliedIsInTheStoreAndNotTheText(t *testing.T) {
	l := newLab(t)
	l.body = "version: STSv1\r\nmode: enforce\r\nx-note: \xff caf\u00e9: hi\r\nmx: MX1.example.org.\r\nmx: *\r\nmax_age: 604800\r\n" +
		strings.Repeat("mx: mx1.example.org\r\nx: y\r\n", 2000)
	l.want("before", l.lookup(), "1", 1)
	if v := l.store.values["p/"+domain]; len(v) > 200 || strings.Count(string(v), "mx1.example.org") != 1 {
		t.Errorf("the store has %q", v)
	}
	before, _ := l.manager.Show(domain)
	l.restart()
	l.want("after a restart", l.lookup(), "1", 1)
	after, _ := l.manager.Show(domain)
	if !slices.Equal(before.Policy.Lines(), after.Policy.Lines()) || before.ID != after.ID ||
		!before.ExpiresAt.Equal(after.ExpiresAt) || !before.FetchedAt.Equal(after.FetchedAt) {
		t.Errorf("%+v became %+v", before, after)
	}
}

// Earlier versions kept the text as it was fetched.
func TestAPolicyInForceThatAnEarlierVersionStoredStaysSo(t *testing.T) {
	l := newLab(t)
	text := "version: STSv1\r\nmode: enforce\r\nmx: MX1.example.org.\r\nmx: mx1.example.org\r\nx: y\r\nmax_age: 604800"
	value, err := cbor.Marshal(map[int]any{1: "1", 2: []byte(text), 3: l.now.Unix() - 3600, 4: l.now.Unix() - 60, 5: l.now.Unix() + 3600})
	if err != nil {
		t.Fatal(err)
	}
	l.store.values["p/"+domain] = value
	l.restart()
	l.txt, l.txtErr, l.fetchErr = nil, sts.ErrNoTXT, errors.New("dead")
	r := l.lookup()
	l.want("the record is gone", r, "1", 0)
	if r.Policy.Mode != sts.ModeEnforce || len(r.Policy.MX) != 1 {
		t.Errorf("%+v", r.Policy)
	}
}

func TestAnErrorThatIsNoUTF8SurvivesARestart(t *testing.T) {
	l := newLab(t)
	l.fetchErr = errors.New("odd \xff")
	l.lookup()
	l.restart()
	l.want("the back-off holds", l.lookup(), "", 1)
}

func TestAStoredTextThatIsNoPolicyIsFetchedAgain(t *testing.T) {
	l := newLab(t)
	l.lookup()
	k := "p/" + domain
	l.store.values[k] = []byte(strings.Replace(string(l.store.values[k]), "enforce", "enfoRce", 1))
	l.restart()
	l.want("after the restart", l.lookup(), "1", 2)
}

type unreadable struct{ memory }

func (*unreadable) Scan([]byte, func(k, v []byte) error) error { return errors.New("no") }

func TestACacheThatCannotBeReadIsNotTakenForAnEmptyOne(t *testing.T) {
	if m, err := sts.NewManager(sts.ManagerOptions{Store: &unreadable{}}); err == nil {
		t.Errorf("%+v", m)
	}
}

func TestCloseEndsAndAwaitsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{values: make(map[string][]byte)}
		m, err := sts.NewManager(sts.ManagerOptions{
			Store:     store,
			LookupTXT: func(context.Context, string, bool) ([]string, error) { return []string{"v=STSv1; id=1"}, nil },
			Fetch: func(ctx context.Context, d string) (*sts.Fetched, error) {
				<-ctx.Done()
				return nil, &sts.FetchError{Type: sts.PolicyFetchError, Domain: d, Err: ctx.Err()}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() {
			_, err := m.Lookup(t.Context(), domain)
			got <- err
		}()
		synctest.Wait()
		m.Close()
		if err := <-got; !errors.Is(err, sts.ErrClosed) {
			t.Errorf("a waiting Lookup got %v", err)
		}
		if _, err := m.Lookup(t.Context(), domain); !errors.Is(err, sts.ErrClosed) {
			t.Errorf("a later Lookup got %v", err)
		}
		if len(store.values) > 0 {
			t.Errorf("a stop counts as a failure of the policy host: %q", store.values)
		}
	})
}
