// Package fleet lets several relays that share one PostgreSQL look after each other's
// mail: a relay joins by taking its space, takes over the spaces of relays that are gone,
// as queues beside its own, and hands them back when their relay asks.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

const (
	// lookEvery is the time between two looks at the spaces.
	lookEvery = time.Second
	// askEvery is the time between two attempts to take the own space.
	askEvery = 500 * time.Millisecond
)

// ReportsSpace is the space in which the TLS reports of the fleet are made, by the relay
// that holds it. No relay can have this name.
const ReportsSpace = "TLS reports"

// Join takes the space of this relay. Where another relay has taken it over, that one is
// asked to hand it back, for at most two terms.
func Join(ctx context.Context, o postgres.Options) (*postgres.Store, error) {
	d, err := postgres.NewDirectory(o.URL, o.Space)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	term := o.Term
	if term == 0 {
		term = postgres.DefaultTerm
	}
	ctx, cancel := context.WithTimeout(ctx, 2*term)
	defer cancel()
	for asked := false; ; asked = true {
		s, err := postgres.Open(ctx, o)
		if !errors.Is(err, postgres.ErrHeld) {
			return s, err
		}
		if !asked && o.Logger != nil {
			o.Logger.Info("another relay works on what this one has left; it is asked to hand it back", "space", o.Space)
		}
		if err := d.Want(ctx, o.Space, o.Space); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w and does not hand it back: does a second relay run under the name %s (fleet.name)?", err, o.Space)
		case <-time.After(askEvery):
		}
	}
}

// Options configures Run. All fields are required.
type Options struct {
	// Own is the space of this relay.
	Own *postgres.Store
	// Space are the options of Own; the spaces of others are opened with the same.
	Space postgres.Options
	// Adopt works on a space that was taken over, until ctx ends or it is to be handed
	// back.
	Adopt func(ctx context.Context, s *postgres.Store) error
	// Reports reports whether this relay makes the TLS reports of the fleet if no other one
	// does: it holds ReportsSpace then.
	Reports bool
	// Held is told how many spaces the relays of the fleet deliver mail of, when that changes.
	Held   func(spaces int)
	Logger *slog.Logger
}

// member is a relay that looks after others.
type member struct {
	Options
	calm time.Time // since when the server answers
	held int       // what Held was told
	work sync.WaitGroup

	mu sync.Mutex
	// rest says until when a space is not taken: one that is worked on, or that was handed
	// back just now.
	rest map[string]time.Time
}

// Run takes over the spaces of relays that are gone, until ctx ends. It returns the error
// of the own space when that is lost.
func Run(ctx context.Context, o Options) error {
	d, err := postgres.NewDirectory(o.Space.URL, o.Space.Space)
	if err != nil {
		return err
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(ctx)
	m := &member{Options: o, calm: time.Now(), rest: make(map[string]time.Time)}
	defer m.work.Wait()
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := o.Own.Err(); err != nil {
			return err
		}
		m.look(ctx, d)
	}
}

// look takes over what is left. After an outage of the server everybody's term has run
// out: so spaces that were not given up are left alone until the server has answered for
// one term.
func (m *member) look(ctx context.Context, d *postgres.Directory) {
	spaces, err := d.Spaces(ctx)
	if err != nil || !m.Own.Holds() || m.Own.Away() {
		m.calm = time.Now()
		if err != nil && ctx.Err() == nil {
			m.Logger.Debug("the spaces cannot be read", "error", err)
		}
		return
	}
	m.count(spaces)
	if m.Reports && !slices.ContainsFunc(spaces, func(s postgres.Space) bool { return s.Name == ReportsSpace }) {
		m.take(ctx, &postgres.Space{Name: ReportsSpace, GivenUp: true})
	}
	for i := range spaces {
		s := &spaces[i]
		if s.Held() || s.Name == m.Space.Space {
			continue
		}
		if s.Name == ReportsSpace && !m.Reports || s.Name != ReportsSpace && s.Messages == 0 && !s.Notices {
			continue
		}
		if !s.GivenUp && time.Since(m.calm) < m.Own.Length() {
			continue
		}
		m.take(ctx, s)
	}
}

// count tells Held how many spaces are worked on. That of the reports has a session of its
// own only while reports wait.
func (m *member) count(spaces []postgres.Space) {
	held := 0
	for i := range spaces {
		if s := &spaces[i]; s.Held() && (s.Name != ReportsSpace || s.Messages > 0) {
			held++
		}
	}
	if held != m.held {
		m.held = held
		m.Held(held)
	}
}

// take takes a space, if no other relay is faster, and works on it.
func (m *member) take(ctx context.Context, s *postgres.Space) {
	if time.Now().Before(m.restUntil(s.Name)) {
		return
	}
	o := m.Space
	o.Holder, o.Space, o.Token, o.Committed = m.Space.Space, s.Name, "", nil
	taken, err := postgres.Open(ctx, o)
	if err != nil {
		if !errors.Is(err, postgres.ErrHeld) {
			m.Logger.Warn("the messages of a relay that is gone were not taken over; it is tried again", "space", s.Name, "error", err)
		}
		return
	}
	if s.Name == ReportsSpace {
		m.Logger.Info("this relay makes the TLS reports of the fleet", "term", taken.Term())
	} else {
		m.Logger.Warn("took over the messages of a relay that is gone; what it had under way may come twice", "space", s.Name, "messages", s.Messages, "term", taken.Term())
	}
	m.letRest(s.Name, 100*365*24*time.Hour)
	m.work.Go(func() {
		defer m.letRest(s.Name, m.Own.Length())
		err := m.Adopt(ctx, taken)
		err = errors.Join(err, taken.Close())
		if err != nil {
			m.Logger.Error("stopped working on a space beside the own one", "space", s.Name, "error", err)
			return
		}
		if s.Name == ReportsSpace {
			return
		}
		m.Logger.Info("gave the messages of another relay back", "space", s.Name, "wanted_by", taken.WantedBy())
	})
}

func (m *member) restUntil(space string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rest[space]
}

func (m *member) letRest(space string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rest[space] = time.Now().Add(d)
}
