package relay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/fleet"
)

// ErrSpaceLost is wrapped by the error of Run when another relay has taken this one's
// space over: the relay forgets what it knew of it and is to be opened anew.
var ErrSpaceLost = errors.New("another relay has taken over what this one was working on")

// watchSpaceEvery is the time between two looks at a space.
const watchSpaceEvery = time.Second

// openStore opens the store of the queue: the disk, or this relay's space in PostgreSQL.
func (r *Relay) openStore(c *config.Config) error {
	r.store = r.disk
	if !c.Shared() {
		return nil
	}
	if n, err := messagesOn(r.disk); err != nil || n > 0 {
		return errors.Join(err, fmt.Errorf("%s has %s of the engine badger, and queue.engine is postgres: start once with engine = \"badger\" and let them be delivered, or take them with \"stsrelay queue export FILE\" and bring them back with \"stsrelay queue import FILE\"",
			StoreDir(c.DataDir), human.Plural(n, "message")))
	}
	options, err := spaceOptions(c)
	if err != nil {
		return err
	}
	options.Committed, options.Logger = r.metrics.Committed, r.log
	if r.space, err = fleet.Join(context.Background(), options); err != nil {
		return fmt.Errorf("queue.engine = \"postgres\": %w", err)
	}
	r.store = r.space
	if r.fleetView, err = newFleetView(&options, r.space.Away); err != nil {
		return err
	}
	r.log.Info("the queue is in PostgreSQL", "space", options.Space, "term", r.space.Term())
	return nil
}

// committedOnDisk is what is told of commits on the disk: metrics count those of the
// queue.
func (r *Relay) committedOnDisk(c *config.Config) func(int, time.Duration) {
	if c.Shared() {
		return nil
	}
	return r.metrics.Committed
}

// damage is what was found in the store of the queue.
func (r *Relay) damage() store.Damage {
	if r.space != nil {
		return store.Damage{}
	}
	return r.disk.Damage()
}

// messagesOn counts the messages of a store.
func messagesOn(s store.Reader) (n int, err error) {
	err = s.ScanKeys(store.PrefixMessage, nil, func([]byte) error { n++; return nil })
	return n, err
}

// spaceOptions are those of this relay's space.
func spaceOptions(c *config.Config) (o postgres.Options, err error) {
	url, err := config.ReadSecret(c.Queue.URLFile)
	if err != nil {
		return o, fmt.Errorf("queue.url_file: %s %w", c.Queue.URLFile, err)
	}
	token, err := fleetToken(filepath.Join(c.DataDir, "fleet-token"))
	if err != nil {
		return o, err
	}
	return postgres.Options{
		URL: url, Space: c.FleetName(), Token: token, Term: time.Duration(c.Fleet.Term), Replication: postgres.Replication(c.Queue.Replication),
	}, nil
}

// fleetToken returns the secret by which PostgreSQL knows the data folder of a relay. It
// is made once.
func fleetToken(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(data))) > 0 {
		return strings.TrimSpace(string(data)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the token of this relay: %w", err)
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // it never fails
	token := hex.EncodeToString(secret[:])
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("the token of this relay: %w", err)
	}
	return token, nil
}

// runFleet looks after the spaces of relays that are gone, until ctx ends. The error wraps
// ErrSpaceLost when another relay has taken this one's own space.
func (r *Relay) runFleet(ctx context.Context) error {
	options, err := spaceOptions(r.config.Load())
	if err != nil {
		return err
	}
	options.Logger = r.log
	err = fleet.Run(ctx, fleet.Options{Own: r.space, Space: options, Adopt: r.adopt, Reports: r.config.Load().TLSRPT.Enabled, Held: r.shareLimits, Logger: r.log})
	if errors.Is(err, store.ErrFailed) {
		return fmt.Errorf("%w: %w", ErrSpaceLost, err)
	}
	return err
}

// sharedSettings are the settings of deliveries, with the limits of hosts divided by the
// number of spaces that the fleet works on: each has sessions of its own.
func (r *Relay) sharedSettings(c *config.Config) (delivery.Settings, error) {
	s, err := r.settings(c)
	divide(&s, int(r.spaces.Load()))
	return s, err
}

// divide divides the limits of hosts by n; 0 counts as 1.
func divide(s *delivery.Settings, n int) {
	if n <= 1 {
		return
	}
	if s.PerHost > 0 {
		s.PerHost = max(1, s.PerHost/n)
	}
	for _, rule := range s.Rules {
		if rule.PerHost > 0 {
			rule.PerHost = max(1, rule.PerHost/n)
		}
	}
}

// shareLimits is told how many spaces the fleet works on.
func (r *Relay) shareLimits(spaces int) {
	r.spaces.Store(int64(spaces))
	r.reloading.Lock()
	defer r.reloading.Unlock()
	s, err := r.sharedSettings(r.config.Load())
	if err != nil { // the files of the configuration cannot be read now: the limits stay
		r.log.Warn("the limits of hosts cannot be divided anew", "error", err)
		return
	}
	r.delivery.Set(s)
	r.eachAdopted(func(other *spool) { other.delivery.Set(s) })
}
