package sts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// disk is a store in memory that can fail.
type disk struct {
	mu             sync.Mutex
	values         map[string][]byte
	reads          int
	unread, unmade error // of Get and of Put
}

func (s *disk) Put(_ context.Context, k, v []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unmade == nil {
		s.values[string(k)] = v
	}
	return s.unmade
}

func (s *disk) Delete(_ context.Context, k []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, string(k))
	return nil
}

func (s *disk) Get(k []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.values[string(k)], s.unread
}

func (s *disk) Scan(_ []byte, fn func(k, v []byte) error) error {
	s.mu.Lock()
	values := maps.Clone(s.values)
	s.mu.Unlock()
	for k, v := range values {
		if err := fn([]byte(k), v); err != nil {
			return err
		}
	}
	return nil
}

// yard is a Manager with bounds, and the Internet around it.
type yard struct {
	t      *testing.T
	disk   *disk
	m      *Manager
	now    time.Time
	policy func(domain string) *Policy // nil: the fetch fails
	absent bool                        // no domain announces anything
	room   error
	limit  int // of domains
}

func newYard(t *testing.T, limit int) *yard {
	y := &yard{t: t, disk: &disk{values: make(map[string][]byte)}, now: time.Unix(1e9, 0), limit: limit}
	y.policy = func(string) *Policy { return enforce("a.example") }
	y.open()
	return y
}

func enforce(mx ...string) *Policy {
	return &Policy{Mode: ModeEnforce, MaxAge: 7 * 24 * time.Hour, MX: mx}
}

func (y *yard) open() {
	y.m = manager(y.t, ManagerOptions{
		Store: y.disk, MaxDomains: y.limit, Now: func() time.Time { return y.now }, Room: func(int64) error { return y.room },
		LookupTXT: func(context.Context, string, bool) ([]string, error) {
			if y.absent {
				return nil, ErrNoTXT
			}
			return []string{"v=STSv1; id=1"}, nil
		},
		Fetch: func(_ context.Context, domain string) (*Fetched, error) {
			if p := y.policy(domain); p != nil {
				return &Fetched{Policy: p}, nil
			}
			return nil, errors.New("dead")
		},
	})
}

// ask looks a domain up, a second after the last one.
func (y *yard) ask(domain string) Result {
	y.t.Helper()
	y.now = y.now.Add(time.Second)
	r, err := y.m.Lookup(y.t.Context(), domain)
	if err != nil {
		y.t.Fatal(err)
	}
	return r
}

func (y *yard) stored() string { return strings.Join(slices.Sorted(maps.Keys(y.disk.values)), " ") }

func TestAPolicyInForceIsNeverDeletedForANewcomer(t *testing.T) {
	for _, mode := range []Mode{ModeEnforce, ModeTesting, ModeNone} {
		y := newYard(t, 2)
		y.policy = func(string) *Policy { return &Policy{Mode: mode, MaxAge: time.Hour, MX: []string{"a.example"}} }
		y.ask("a")
		y.ask("b")
		y.policy = func(string) *Policy { return enforce("a.example") }
		for i := range 50 {
			if r := y.ask(fmt.Sprintf("new%d", i)); r.Policy == nil {
				t.Errorf("the policy of a newcomer is not applied: %+v", r)
			}
		}
		if got := y.stored(); got != "a b" {
			t.Errorf("%s: the store has %q", mode, got)
		}
		y.absent = true
		if r := y.ask("new3"); r.Policy == nil {
			t.Errorf("a newcomer is not in memory either")
		}
		if r := y.ask("a"); r.Policy == nil || r.Policy.Mode != mode {
			t.Errorf("%s: %+v", mode, r)
		}
	}
}

func TestWhatIsOverMakesRoom(t *testing.T) {
	y := newYard(t, 3)
	y.ask("ends")
	y.now = y.now.Add(8 * 24 * time.Hour)
	y.ask("stays")
	y.policy = func(string) *Policy { return nil }
	y.ask("fails")
	y.policy = func(string) *Policy { return enforce("a.example") }
	y.ask("new")
	if got := y.stored(); got != "fails new stays" {
		t.Errorf("the store has %q: what was used longest ago goes first", got)
	}
	y.ask("newer")
	if got := y.stored(); got != "new newer stays" {
		t.Errorf("the store has %q", got)
	}
	y.ask("newest")
	if got := y.stored(); got != "new newer stays" {
		t.Errorf("the store has %q", got)
	}
}

func TestANewcomerDoesNotFillTheDisk(t *testing.T) {
	y := newYard(t, 100)
	y.ask("a")
	y.room = errors.New("disk full")
	y.ask("b")
	y.policy = func(string) *Policy { return enforce("b.example", "c.example") }
	if _, changed, err := y.m.Refetch(t.Context(), "a"); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if got := y.stored(); got != "a" || !strings.Contains(string(y.disk.values["a"]), "c.example") {
		t.Errorf("the store has %q", y.disk.values)
	}
	y.open()
	y.absent = true
	if r := y.ask("a"); r.Policy == nil || len(r.Policy.MX) != 2 {
		t.Errorf("after a restart: %+v", r)
	}
}

func TestOctetsInTheStoreAreBounded(t *testing.T) {
	y := newYard(t, 1000)
	y.m.cache.maxStored = 10 * minCharge
	y.policy = func(domain string) *Policy { return enforce(domain + ".example") }
	for i := range 30 {
		y.ask(fmt.Sprint(i))
	}
	if len(y.disk.values) != 10 {
		t.Errorf("%d domains are stored", len(y.disk.values))
	}
	// One that grows when there is no room keeps what it had.
	y.policy = func(string) *Policy { return enforce(manyMX(400)...) }
	if _, changed, err := y.m.Refetch(t.Context(), "3"); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if len(y.disk.values["3"]) > minCharge || len(y.ask("3").Policy.MX) != 400 {
		t.Errorf("%d octets are stored", len(y.disk.values["3"]))
	}
	y.open()
	if r := y.ask("3"); r.Policy == nil || r.Policy.MX[0] != "3.example" {
		t.Errorf("after a restart: %+v", r)
	}
}

func manyMX(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%d.stranger.example", i))
	}
	return out
}

func TestMemoryIsACacheOfTheStore(t *testing.T) {
	y := newYard(t, 1000)
	y.m.cache.maxMemory = 20_000
	y.policy = func(string) *Policy { return enforce(manyMX(20)...) }
	y.ask("victim")
	for i := range 100 {
		y.ask(fmt.Sprint(i))
	}
	c := y.m.cache
	if c.memory > 20_000 || len(c.hot) > 30 || c.hot["victim"] != nil || len(c.cards) != 101 || len(y.disk.values) != 101 {
		t.Errorf("%d octets, %d in memory of %d, %d stored", c.memory, len(c.hot), len(c.cards), len(y.disk.values))
	}
	y.absent, y.policy = true, func(string) *Policy { return nil }
	for i := range 2 {
		if r := y.ask("victim"); r.Policy == nil || r.Policy.Mode != ModeEnforce || y.disk.reads != 1 {
			t.Errorf("%d: %+v after %d reads", i, r, y.disk.reads)
		}
	}
	if list := y.m.List(); len(list) != 101 || list[0].Policy == nil || list[50].LastUsed.IsZero() {
		t.Errorf("%d are listed", len(list))
	}
	if n := y.m.Modes()[ModeEnforce]; n != 101 {
		t.Errorf("%d are in force", n)
	}
	sum := 0
	for _, e := range c.hot {
		sum += e.size
	}
	if sum != c.memory {
		t.Errorf("%d octets are counted, there are %d", c.memory, sum)
	}
}

// A store that cannot be read must not look like a domain without a policy.
func TestAPolicyThatCannotBeReadIsNotNoPolicy(t *testing.T) {
	y := newYard(t, 100)
	y.ask("a")
	y.m.cache.maxMemory = 0
	y.ask("b")
	y.disk.unread, y.absent = errors.New("input/output error"), true
	if r, err := y.m.Lookup(t.Context(), "a"); err == nil {
		t.Errorf("Lookup: %+v", r)
	}
	if r, err := y.m.Recheck(t.Context(), "a"); err == nil {
		t.Errorf("Recheck: %+v", r)
	}
	if r, _, err := y.m.Refetch(t.Context(), "a"); err == nil {
		t.Errorf("Refetch: %+v", r)
	}
	if r, err := y.m.Refresh(t.Context(), "a"); err == nil {
		t.Errorf("Refresh: %+v", r)
	}
	y.disk.unread = nil
	if r := y.ask("a"); r.Policy == nil {
		t.Errorf("%+v", r)
	}
}

// What the store does not take is in memory alone, and that is bounded too.
func TestWhatIsInMemoryAloneIsBounded(t *testing.T) {
	y := newYard(t, 100)
	y.ask("a")
	y.disk.unmade = errors.New("the disk is gone")
	y.m.cache.maxMemory = 20_000
	y.policy = func(string) *Policy { return enforce("new.example") }
	if _, changed, err := y.m.Refetch(t.Context(), "a"); err != nil || !changed {
		t.Fatal(changed, err)
	}
	for i := range 200 {
		y.ask(fmt.Sprint(i))
	}
	c := y.m.cache
	if c.pinned > 10_000 || c.hot["a"] == nil || c.hot["199"] == nil || len(c.cards) > 50 {
		t.Errorf("%d octets in memory alone, %d domains", c.pinned, len(c.cards))
	}
	if r := y.ask("a"); r.Policy.MX[0] != "new.example" {
		t.Errorf("%+v", r)
	}
	for _, e := range y.m.List() {
		if _, err := y.m.Remove(t.Context(), e.Domain); err != nil {
			t.Fatal(err)
		}
	}
	if c.pinned != 0 || c.memory != 0 || c.stored != 0 || len(c.hot) != 0 {
		t.Errorf("%d, %d and %d octets are left", c.pinned, c.memory, c.stored)
	}
}

func TestOnlySomeHundredPatternsAreApplied(t *testing.T) {
	p := enforce(append(manyMX(600), manyMX(600)...)...)
	if a := p.Applied(); len(a.MX) != 500 || a.MX[499] != "499.stranger.example" || p.leftOut(a) != 100 {
		t.Errorf("%d are applied, %d left out", len(a.MX), p.leftOut(a))
	}
	long := make([]string, 300)
	for i := range long {
		long[i] = fmt.Sprintf("%s%d.example", strings.Repeat("a", 200), i)
	}
	if octets := len(strings.Join(enforce(long...).Applied().MX, "")); octets > 16<<10 {
		t.Errorf("%d octets are applied", octets)
	}
}

func TestDomainsInUseAreRefreshedBeforeThoseOfAStranger(t *testing.T) {
	card := func(fetched, used, failed int64) int {
		c := &card{fetchedAt: fetched, failedAt: failed}
		c.used.Store(used)
		return c.refreshOrder()
	}
	inUse, once, dead := card(1000, 5000, 0), card(1000, 1000, 0), card(1000, 5000, 4000)
	if inUse >= once || once >= dead {
		t.Errorf("in use %d, asked for once %d, dead %d", inUse, once, dead)
	}
}
