package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/pgtest"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/relay/fleet"
)

var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	if _, err := pgtest.Programs(); err != nil {
		fmt.Println("skipped:", err)
		os.Exit(0)
	}
	c, err := pgtest.Start("", 1)
	if err == nil {
		_, err = postgres.Init(context.Background(), c.URL(), postgres.Required)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	cluster = c
	code := m.Run()
	c.Stop()
	os.Exit(code)
}

func options(t *testing.T, name string) postgres.Options {
	return postgres.Options{URL: cluster.URL(), Space: name, Term: 3 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func join(t *testing.T, name string) *postgres.Store {
	t.Helper()
	s, err := fleet.Join(t.Context(), options(t, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

var key = append([]byte(nil), "e\x00\x00\x00\x00\x00\x00\x00\x01"...)

// message writes the key of a message.
func message(t *testing.T, s *postgres.Store) {
	t.Helper()
	if err := store.Put(t.Context(), s, key, []byte("mail")); err != nil {
		t.Fatal(err)
	}
}

// run lets a relay look after others, and returns what it takes over. It works on that
// until it is wanted.
func run(t *testing.T, name string) (taken chan *postgres.Store) {
	t.Helper()
	own := join(t, name)
	ctx, cancel := context.WithCancel(context.Background())
	taken = make(chan *postgres.Store, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- fleet.Run(ctx, fleet.Options{Own: own, Space: options(t, name), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Held: func(int) {},
			Adopt: func(ctx context.Context, s *postgres.Store) error {
				if s.Term() == 1 {
					t.Error("a space was taken that nobody had")
				}
				taken <- s
				for s.WantedBy() == "" && ctx.Err() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				return nil
			}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return taken
}

func TestWhatARelayHasLeftIsTakenOverByOneOfTheOthersAndHandedBack(t *testing.T) {
	for _, row := range []struct {
		name  string
		leave func(t *testing.T, name string, s *postgres.Store)
	}{
		{"stopped", func(t *testing.T, _ string, s *postgres.Store) {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"dead", func(t *testing.T, name string, s *postgres.Store) {
			// The term of a process that has died runs out; another number keeps this one from
			// renewing it.
			if _, err := cluster.Nodes[0].Query("update stsrelay.spaces set term = term + 1 where name = '" + name + "'"); err != nil {
				t.Fatal(err)
			}
			if err := store.Put(t.Context(), s, []byte("k"), nil); !errors.Is(err, store.ErrFailed) {
				t.Fatalf("it writes: %v", err)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			name := "a-" + row.name
			first := join(t, name)
			message(t, first)
			b, c := run(t, "b-"+row.name), run(t, "c-"+row.name)
			row.leave(t, name, first)
			var other *postgres.Store
			select {
			case other = <-b:
			case other = <-c:
			case <-time.After(20 * time.Second):
				t.Fatal("nobody takes it over")
			}
			if v, err := store.Get(other, key); string(v) != "mail" {
				t.Errorf("it finds %q, %v", v, err)
			}
			back := join(t, name) // which asks for it
			if !errors.Is(store.Put(t.Context(), other, []byte("k"), nil), store.ErrClosed) {
				t.Error("the other one still writes")
			}
			if err := store.Remove(t.Context(), back, key); err != nil {
				t.Error(err)
			}
			if len(b)+len(c) != 0 {
				t.Error("both have taken it")
			}
		})
	}
}

func TestAStateOfTheFleet(t *testing.T) {
	s := join(t, "alone")
	message(t, s)
	d, err := postgres.NewDirectory(cluster.URL(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	f, err := d.Fleet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, space := range f.Spaces {
		if space.Name == "alone" {
			found = space.Holder == "alone" && space.Messages == 1 && space.Held() && space.Term == s.Term()
		}
	}
	if !found || len(f.Standbys) != 1 || len(f.Troubles(postgres.Required)) != 0 {
		t.Errorf("%+v, troubles %q", f, f.Troubles(postgres.Required))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = d.Fleet(t.Context()); err != nil || len(f.Troubles(postgres.Required)) != 1 {
		t.Errorf("troubles %q, %v; want that nobody holds the message", f.Troubles(postgres.Required), err)
	}
}
