package sts_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/sts"
)

type netConn = net.Conn

// memory is a store without a disk.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	broken bool // it cannot be written
	unread bool // it cannot be read
}

func (m *memory) Put(_ context.Context, k, v []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("the disk is gone")
	}
	m.values[string(k)] = v
	return nil
}

func (m *memory) Delete(_ context.Context, k []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, string(k))
	return nil
}

func (m *memory) Get(k []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unread {
		return nil, errors.New("the disk cannot be read")
	}
	return m.values[string(k)], nil
}

func (m *memory) Scan(prefix []byte, fn func(k, v []byte) error) error {
	m.mu.Lock()
	values := maps.Clone(m.values)
	m.mu.Unlock()
	for k, v := range values {
		if strings.HasPrefix(k, string(prefix)) {
			if err := fn([]byte(k), v); err != nil {
				return err
			}
		}
	}
	return nil
}

// lab is a manager with everything around it in hand.
type lab struct {
	t        *testing.T
	store    *memory
	manager  *sts.Manager
	now      time.Time
	clock    func() time.Time // instead of now, if set
	txt      []string
	txtErr   error
	body     string
	fetchErr error
	fetches  atomic.Int64
	lookups  atomic.Int64
	gate     chan struct{} // if set, fetches wait for it
	inside   chan struct{} // and say so here
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, store: &memory{values: make(map[string][]byte)}, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	l.publish("1", "enforce")
	l.restart()
	return l
}

// restart makes a new manager on the same store.
func (l *lab) restart() {
	l.t.Helper()
	var err error
	l.manager, err = sts.NewManager(sts.ManagerOptions{
		Store: l.store, Prefix: []byte("p/"), Now: func() time.Time {
			if l.clock != nil {
				return l.clock()
			}
			return l.now
		},
		LookupTXT: func(context.Context, string, bool) ([]string, error) {
			l.lookups.Add(1)
			return l.txt, l.txtErr
		},
		Fetch: func(_ context.Context, domain string) (*sts.Fetched, error) {
			l.fetches.Add(1)
			if l.gate != nil {
				l.inside <- struct{}{}
				<-l.gate
			}
			if l.fetchErr != nil {
				return nil, &sts.FetchError{Type: sts.PolicyFetchError, Domain: domain, Err: l.fetchErr}
			}
			p, warnings, err := sts.ParsePolicy([]byte(l.body))
			if err != nil {
				return nil, &sts.FetchError{Type: sts.PolicyInvalid, Domain: domain, Text: l.body, Err: err}
			}
			return &sts.Fetched{Policy: p, Warnings: warnings, Text: l.body}, nil
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) publish(id, mode string) {
	l.txt, l.txtErr = []string{"v=STSv1; id=" + id}, nil
	l.body = fmt.Sprintf("version: STSv1\nmode: %s\nmx: mx%s.example.org\nmax_age: 604800\n", mode, id)
}

func (l *lab) lookup() sts.Result {
	l.t.Helper()
	r, err := l.manager.Lookup(l.t.Context(), domain)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// want checks the policy in force by the id of its only MX, "" for none.
func (l *lab) want(what string, r sts.Result, id string, fetches int64) {
	l.t.Helper()
	got := ""
	if r.Policy != nil {
		got = strings.TrimSuffix(strings.TrimPrefix(r.Policy.MX[0], "mx"), ".example.org")
	}
	if got != id {
		l.t.Errorf("%s: policy %q is in force, want %q (%+v)", what, got, id, r)
	}
	if n := l.fetches.Load(); n != fetches {
		l.t.Errorf("%s: %d fetches, want %d", what, n, fetches)
	}
}
