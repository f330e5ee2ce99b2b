package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/stsrelay/stsrelay/config"
)

// Reload reads the configuration and the certificates again. If they are wrong, it
// returns an error and changes nothing. Keys that cannot change while the relay runs
// keep their values, and are named in the log.
func (r *Relay) Reload(ctx context.Context) error {
	_, err := r.reload(ctx)
	return err
}

// reload is Reload. It returns the keys that change with the next start only.
func (r *Relay) reload(ctx context.Context) (restart []string, err error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	done, told := r.o.Manager.Reloading()
	r.warn(told)
	defer func() { r.warn(done()) }()
	if r.o.Load == nil {
		return nil, errors.New("this relay has no configuration file to read again")
	}
	c, err := r.o.Load()
	if err == nil && c.Empty && !r.config.Load().Empty {
		err = fmt.Errorf("%s is empty, as a full disk, a crash or an editor leaves it: all rules would be gone; a comment in it says that all defaults are meant", c.File)
	}
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

// takeOver puts c into force, except for the keys that need a restart, which it returns.
// It does all that may fail before it sets anything.
func (r *Relay) takeOver(ctx context.Context, c *config.Config) (restart []string, err error) {
	running := r.config.Load()
	restart = c.KeepRunning(running)
	deliverySettings, err := r.sharedSettings(c)
	if err != nil {
		return nil, err
	}
	certs, err := readCertificates(c)
	if err != nil {
		return nil, err
	}
	signer, err := r.newSigner(c, "reports")
	if err != nil {
		return nil, err
	}
	ingressOptions, err := r.ingressOptions(c)
	if err != nil {
		return nil, err
	}
	if c.Publisher.HTTPS != "" {
		if err := r.setPublished(ctx, c); err != nil {
			return nil, err
		}
	}
	r.config.Store(c)
	r.ingress.Update(ingressOptions)
	r.certs.Set(certs, c.TLS.Certificate, c.TLS.Key)
	if c.TLS.ACME {
		r.useOwnCertificate()
	}
	r.passwords.Set(accounts(c))
	r.signer.Store(signer)
	r.warnUnsigned(c)
	set := func(s *spool) {
		s.queue.SetSchedule(schedule(c))
		s.queue.SetLimits(queueLimits(c))
		if running.Delivery.Paused != c.Delivery.Paused { // else what the operator has set stays
			s.queue.SetPaused(c.Delivery.Paused)
		}
		s.delivery.Set(deliverySettings)
	}
	set(&spool{queue: r.queue, delivery: r.delivery})
	r.eachAdopted(set)
	r.history.Set(historySettings(c))
	if r.policies != nil && running.Delivery.PrivateAddresses != c.Delivery.PrivateAddresses {
		// Another private_addresses may give another answer: the next delivery asks again.
		r.policies.ForgetFailures(ctx)
	}
	r.setLevel(c)
	r.probeResolvers(ctx)
	return restart, nil
}

func (r *Relay) setLevel(c *config.Config) {
	if r.o.Level != nil {
		_ = r.o.Level.UnmarshalText([]byte(c.Log.Level)) // checked by config
	}
}
