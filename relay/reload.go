package relay

import (
	"context"
	"errors"
	"time"

	"github.com/stsrelay/stsrelay/config"
)

// Reload reads the configuration and the certificates again. What is wrong
// with them is returned, and then nothing has changed. What cannot change
// while the relay runs stays, and is named in the log.
func (r *Relay) Reload(ctx context.Context) error {
	_, err := r.reload(ctx)
	return err
}

// reload is Reload. It returns the keys whose values in the file count from the
// next start only.
func (r *Relay) reload(ctx context.Context) (restart []string, err error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	if r.o.Load == nil {
		return nil, errors.New("this relay has no configuration file to read again")
	}
	c, err := r.o.Load()
	if err == nil {
		restart, err = r.takeOver(ctx, c)
	}
	if err != nil {
		r.log.Error("reload: the configuration is not taken over", "error", err)
		return nil, err
	}
	for _, k := range restart {
		r.log.Warn("reload: this key changes with the next start only", "key", k)
	}
	if c.File == "" {
		r.log.Info("configuration reloaded: defaults and environment, no file")
	} else {
		r.log.Info("configuration reloaded", "file", c.File)
	}
	return restart, nil
}

// takeOver puts c into force, without the keys that need a restart. It reads all that
// may fail before it sets anything.
func (r *Relay) takeOver(ctx context.Context, c *config.Config) (restart []string, err error) {
	running := r.config.Load()
	restart = c.KeepRunning(running)
	deliverySettings, err := settings(c)
	if err != nil {
		return nil, err
	}
	certs, err := readCertificates(c)
	if err != nil {
		return nil, err
	}
	signer, err := newSigner(c, "reports")
	if err != nil {
		return nil, err
	}
	ingressOptions, err := r.ingressOptions(c)
	if err != nil {
		return nil, err
	}
	r.config.Store(c)
	r.ingress.Update(ingressOptions)
	r.certs.Set(certs, c.TLS.Certificate, c.TLS.Key)
	r.passwords.Set(accounts(c))
	r.signer.Store(signer)
	r.warnUnsigned(c)
	r.queue.SetSchedule(schedule(c))
	r.queue.SetLimits(queueLimits(c))
	if running.Delivery.Paused != c.Delivery.Paused { // else the operator's last word stands
		r.queue.SetPaused(c.Delivery.Paused)
	}
	r.delivery.Set(deliverySettings)
	if r.policies != nil && running.Delivery.PrivateAddresses != c.Delivery.PrivateAddresses {
		r.forgetFailures(ctx)
	}
	r.setLevel(c)
	r.lookAtResolvers(ctx)
	return restart, nil
}

// forgetFailures lets the next delivery ask again for the policies that could
// not be had: another private_addresses may make another answer of it, and until
// then their domains' mail would go without.
func (r *Relay) forgetFailures(ctx context.Context) {
	now := time.Now()
	if r.o.Now != nil {
		now = r.o.Now()
	}
	for _, e := range r.policies.List() {
		if e.LastError != "" && !e.ExpiresAt.After(now) {
			if _, err := r.policies.Remove(ctx, e.Domain); err != nil {
				r.log.Warn("a policy that could not be had is asked for again only later", "domain", e.Domain, "error", err)
			}
		}
	}
}

func (r *Relay) setLevel(c *config.Config) {
	if r.o.Level != nil {
		_ = r.o.Level.UnmarshalText([]byte(c.Log.Level)) // checked by config
	}
}
