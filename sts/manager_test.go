package sts_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/sts"
)

func TestACachedPolicySurvivesWhatGoesWrong(t *testing.T) {
	for _, tt := range []struct {
		name    string
		break_  func(*lab)
		fetches int64 // beside the first
		failure sts.FailureType
	}{
		{"nothing", func(*lab) {}, 0, ""},
		{"the policy host dies", func(l *lab) { l.fetchErr = errors.New("dead") }, 0, ""},
		{"the record goes", func(l *lab) { l.txt, l.txtErr = nil, sts.ErrNoTXT }, 0, ""},
		{"the record is broken", func(l *lab) { l.txt = []string{"v=STSv1; broken"} }, 0, ""},
		{"there are two records", func(l *lab) { l.txt = append(l.txt, "v=STSv1; id=9") }, 0, ""},
		{"the record cannot be looked up", func(l *lab) { l.txtErr = errors.New("SERVFAIL") }, 0, ""},
		{"a new id and a dead host", func(l *lab) { l.publish("2", "enforce"); l.fetchErr = errors.New("dead") }, 1, sts.PolicyFetchError},
		{"a new id and an invalid policy", func(l *lab) { l.publish("2", "enforce"); l.body = "hello" }, 1, sts.PolicyInvalid},
		{"the clock goes back a day", func(l *lab) { l.now = l.now.Add(-24 * time.Hour) }, 0, ""},
		{"the store cannot be written", func(l *lab) { l.store.broken = true }, 0, ""},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", tt.name, restart), func(t *testing.T) {
				l := newLab(t)
				l.want("first", l.lookup(), "1", 1)
				tt.break_(l)
				if restart {
					l.restart()
				}
				r := l.lookup()
				l.want("then", r, "1", 1+tt.fetches)
				if got := failureType(r); got != tt.failure {
					t.Errorf("failure is %q, want %q", got, tt.failure)
				}
				l.want("again", l.lookup(), "1", 1+tt.fetches) // the back-off holds
			})
		}
	}
}

func failureType(r sts.Result) sts.FailureType {
	if r.Failure == nil {
		return ""
	}
	return r.Failure.Type
}

func TestANewIDReplacesThePolicyAtOnce(t *testing.T) {
	for _, mode := range []string{"enforce", "testing", "none"} {
		l := newLab(t)
		l.lookup()
		l.publish("2", mode)
		r := l.lookup()
		l.want(mode, r, "2", 2)
		if string(r.Policy.Mode) != mode {
			t.Errorf("mode %s, want %s", r.Policy.Mode, mode)
		}
	}
}

func TestExpiry(t *testing.T) {
	l := newLab(t)
	l.lookup()
	l.now = l.now.Add(7*24*time.Hour - time.Second)
	l.want("just before", l.lookup(), "1", 1)
	l.fetchErr = errors.New("dead")
	l.now = l.now.Add(2 * time.Second)
	r := l.lookup()
	l.want("just after, host dead", r, "", 2)
	if failureType(r) != sts.PolicyFetchError || r.Unknown {
		t.Errorf("%+v", r)
	}
	l.fetchErr = nil
	l.now = l.now.Add(time.Hour)
	l.want("host back", l.lookup(), "1", 3)
}

func TestBackOffOfOneID(t *testing.T) {
	l := newLab(t)
	l.fetchErr = errors.New("dead")
	l.want("first", l.lookup(), "", 1)
	l.now = l.now.Add(4 * time.Minute)
	r := l.lookup()
	l.want("4 minutes later", r, "", 1)
	if failureType(r) == "" {
		t.Error("the failure is not told while it is not tried again")
	}
	l.restart()
	l.want("after a restart", l.lookup(), "", 1)
	l.now = l.now.Add(2 * time.Minute)
	l.want("6 minutes later", l.lookup(), "", 2)
	l.now = l.now.Add(6 * time.Minute)
	l.want("the second wait is longer", l.lookup(), "", 2)
	l.publish("2", "enforce")
	l.want("a new id is tried at once", l.lookup(), "", 3)
	l.fetchErr = nil
	l.publish("3", "enforce")
	l.want("and works", l.lookup(), "3", 4)
}

func TestNobodyKnowsWhetherThereIsAPolicy(t *testing.T) {
	l := newLab(t)
	l.txtErr = errors.New("SERVFAIL")
	l.want("the policy host is asked", l.lookup(), "1", 1)

	l = newLab(t)
	l.txtErr = errors.New("SERVFAIL")
	l.fetchErr = errors.New("timeout")
	if r := l.lookup(); !r.Unknown || r.Policy != nil || !strings.Contains(r.Why, "SERVFAIL") {
		t.Errorf("nobody answers: %+v", r)
	}

	l = newLab(t)
	l.txtErr = errors.New("SERVFAIL")
	l.fetchErr = sts.ErrNoHost
	if r := l.lookup(); r.Unknown || r.Policy != nil {
		t.Errorf("there is no policy host: %+v", r)
	}
}

func TestNoRecordIsNoPolicyAndNoFetch(t *testing.T) {
	for name, txt := range map[string][]string{"none": nil, "SPF": {"v=spf1"}, "two": {"v=STSv1; id=1", "v=STSv1; id=2"}} {
		l := newLab(t)
		l.txt = txt
		r := l.lookup()
		l.want(name, r, "", 0)
		if r.Failure != nil || r.Unknown {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestAddressLiteralsHaveNoPolicy(t *testing.T) {
	l := newLab(t)
	r, err := l.manager.Lookup(t.Context(), "[192.0.2.1]")
	if err != nil || r.Policy != nil || l.lookups.Load() > 0 {
		t.Errorf("%+v, %v, %d lookups", r, err, l.lookups.Load())
	}
}

func TestMaxAgeZeroIsForThisAttemptOnly(t *testing.T) {
	l := newLab(t)
	l.body = strings.Replace(l.body, "604800", "0", 1)
	l.want("first", l.lookup(), "1", 1)
	l.want("second", l.lookup(), "1", 2)
}

func TestAHundredFirstDeliveriesShareOneFetch(t *testing.T) {
	l := newLab(t)
	l.gate, l.inside = make(chan struct{}), make(chan struct{}, 200)
	cancelled, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := l.manager.Lookup(cancelled, domain)
		first <- err
	}()
	<-l.inside
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if r := l.lookup(); r.Policy == nil {
				t.Errorf("%+v", r)
			}
		})
	}
	cancel() // the first one gives up; the others must not be the worse for it
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who gave up got %v", err)
	}
	close(l.gate)
	wg.Wait()
	if n := l.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestRefetchIsForPoliciesThatChangedWithoutTheirID(t *testing.T) {
	l := newLab(t)
	l.lookup()
	l.now = l.now.Add(time.Hour)
	l.body = strings.Replace(l.body, "mx1.", "mx2.", 1)
	l.want("the id is the same", l.lookup(), "1", 1)
	r, changed, err := l.manager.Refetch(t.Context(), domain)
	if err != nil || !changed {
		t.Fatalf("%+v, %t, %v", r, changed, err)
	}
	l.want("refetched", r, "2", 2)
	if _, changed, _ = l.manager.Refetch(t.Context(), domain); changed || l.fetches.Load() != 2 {
		t.Errorf("fetched again within five minutes")
	}
	l.now = l.now.Add(6 * time.Minute)
	if _, changed, _ = l.manager.Refetch(t.Context(), domain); changed || l.fetches.Load() != 3 {
		t.Errorf("changed %t, %d fetches", changed, l.fetches.Load())
	}
	l.now = l.now.Add(6 * time.Minute)
	l.fetchErr = errors.New("dead")
	r, changed, err = l.manager.Refetch(t.Context(), domain)
	if err != nil || changed {
		t.Errorf("%t, %v", changed, err)
	}
	l.want("a failed refetch keeps the policy", r, "2", 4)
}

func TestTheOperatorsRefresh(t *testing.T) {
	l := newLab(t)
	l.lookup()
	l.body = strings.Replace(l.body, "mx1.", "mx2.", 1)
	e, err := l.manager.Refresh(t.Context(), domain)
	if err != nil || e.Policy.MX[0] != "mx2.example.org" {
		t.Fatalf("%+v, %v", e, err)
	}
	l.fetchErr = errors.New("dead")
	for range 2 { // whatever the back-off says
		if _, err := l.manager.Refresh(t.Context(), domain); err == nil || !strings.Contains(err.Error(), "dead") {
			t.Fatalf("%v", err)
		}
	}
	l.want("the old one stays", l.lookup(), "2", 4)
	if e, ok := l.manager.Show(domain); !ok || !strings.Contains(e.LastError, "dead") {
		t.Errorf("%+v", e)
	}
	if found, err := l.manager.Remove(t.Context(), domain); !found || err != nil {
		t.Error(found, err)
	}
	if list := l.manager.List(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	l.restart()
	if list := l.manager.List(); len(list) != 0 {
		t.Errorf("after a restart: %+v", list)
	}
}

func TestTheOperatorsRefreshTellsThatTheRecordIsGone(t *testing.T) {
	l := newLab(t)
	l.txt, l.txtErr = nil, sts.ErrNoTXT
	if _, err := l.manager.Refresh(t.Context(), domain); !errors.Is(err, sts.ErrNoRecord) || strings.Contains(err.Error(), "any more") {
		t.Errorf("with nothing cached: %v", err)
	}
	l.publish("2", "enforce")
	l.lookup()
	l.txt, l.txtErr = nil, sts.ErrNoTXT
	for _, dead := range []error{nil, errors.New("dead")} {
		l.fetchErr = dead
		_, err := l.manager.Refresh(t.Context(), domain)
		if !errors.Is(err, sts.ErrNoRecord) || !strings.Contains(err.Error(), "announces no policy any more") || dead != nil && !strings.Contains(err.Error(), "dead") {
			t.Errorf("%v: %v", dead, err)
		}
	}
	if e, ok := l.manager.Show(domain); !ok || e.Policy == nil || e.ID != "2" {
		t.Errorf("the policy was not kept: %+v", e)
	}
}

// The clock is the bubble's: a day goes by in no time.
func TestPoliciesInUseAreRefreshedDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches, dead atomic.Int64
		var mode atomic.Value
		mode.Store(sts.ModeEnforce)
		m, err := sts.NewManager(sts.ManagerOptions{
			Store: &memory{values: make(map[string][]byte)}, Prefix: []byte("p/"),
			LookupTXT: func(context.Context, string, bool) ([]string, error) { return []string{"v=STSv1; id=1"}, nil },
			Fetch: func(context.Context, string) (*sts.Fetched, error) {
				fetches.Add(1)
				if dead.Load() > 0 {
					return nil, &sts.FetchError{Type: sts.PolicyFetchError, Err: errors.New("dead")}
				}
				return &sts.Fetched{Policy: &sts.Policy{Mode: mode.Load().(sts.Mode), MaxAge: 7 * 24 * time.Hour, MX: []string{"a.example"}}}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = m.Run(ctx) }()
		if _, err := m.Lookup(ctx, domain); err != nil {
			t.Fatal(err)
		}
		mode.Store(sts.ModeTesting) // the id stays
		time.Sleep(17 * time.Hour)
		synctest.Wait()
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches after 17 hours", n)
		}
		time.Sleep(15 * time.Hour)
		synctest.Wait()
		e, _ := m.Show(domain)
		if n := fetches.Load(); n != 2 || e.Policy.Mode != sts.ModeTesting {
			t.Errorf("%d fetches after 32 hours, mode %s", n, e.Policy.Mode)
		}
		dead.Store(1)
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if e, _ = m.Show(domain); e.LastError == "" || e.Policy == nil || !e.ExpiresAt.After(time.Now()) {
			t.Errorf("failed refreshes: %+v", e)
		}
		before := fetches.Load()
		dead.Store(0)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if e, _ = m.Show(domain); e.LastError != "" || fetches.Load() != before+1 {
			t.Errorf("after the host came back: %+v, %d fetches", e, fetches.Load()-before)
		}
		time.Sleep(45 * 24 * time.Hour) // nobody uses it any more
		synctest.Wait()
		if _, ok := m.Show(domain); ok {
			t.Error("an unused policy is kept for ever")
		}
		cancel()
		<-done
	})
}

func TestACorruptEntryIsFetchedAgain(t *testing.T) {
	l := newLab(t)
	l.lookup()
	l.store.values["p/"+domain] = []byte("\xff\xff")
	l.restart()
	l.want("after the restart", l.lookup(), "1", 2)
}

func BenchmarkLookupOfACachedPolicy(b *testing.B) {
	txt := []string{"v=STSv1; id=1"}
	m, err := sts.NewManager(sts.ManagerOptions{
		Store: &memory{values: make(map[string][]byte)}, Prefix: []byte("p/"),
		LookupTXT: func(context.Context, string, bool) ([]string, error) { return txt, nil },
		Fetch: func(context.Context, string) (*sts.Fetched, error) {
			return &sts.Fetched{Policy: &sts.Policy{Mode: sts.ModeEnforce, MaxAge: time.Hour, MX: []string{"a.example"}}}, nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Lookup(b.Context(), domain); err != nil {
			b.Fatal(err)
		}
	}
}

// Ten digits of seconds are more than a Duration holds: such a policy had ended
// 300 years ago, and the time of its refresh could not be drawn.
func TestALongMaxAgeIsAYear(t *testing.T) {
	l := newLab(t)
	l.body = strings.Replace(l.body, "604800", "9999999999", 1)
	l.want("fetched", l.lookup(), "1", 1)
	l.fetchErr, l.txtErr = errors.New("dead"), errors.New("SERVFAIL")
	l.now = l.now.Add(365 * 24 * time.Hour)
	l.want("365 days later", l.lookup(), "1", 1)
	l.now = l.now.Add(24 * time.Hour)
	l.want("366 days later", l.lookup(), "", 2)
}
