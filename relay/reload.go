package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stsrelay/stsrelay/config"
)

// Reload reads the configuration and the certificates again. What is wrong
// with them is returned, and then nothing has changed. What cannot change
// while the relay runs is named in the log.
func (r *Relay) Reload(context.Context) error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	if r.o.Load == nil {
		return errors.New("this relay has no configuration file to read again")
	}
	c, err := r.o.Load()
	if err != nil {
		r.log.Error("reload: the configuration is not taken over", "error", err)
		return err
	}
	deliverySettings, err := settings(c)
	if err != nil {
		r.log.Error("reload: the configuration is not taken over", "error", err)
		return err
	}
	certs, err := readCertificates(c)
	if err != nil {
		r.log.Error("reload: the configuration is not taken over", "error", err)
		return err
	}
	signer, err := newSigner(c, "reports")
	if err != nil {
		r.log.Error("reload: the configuration is not taken over", "error", err)
		return err
	}
	io, err := r.ingressOptions(c)
	if err == nil {
		err = r.ingress.Update(io)
	}
	if err != nil {
		err = fmt.Errorf("reload: %w", err)
		r.log.Error("reload: the configuration is not taken over", "error", err)
		return err
	}
	for _, k := range needRestart(r.config.Load(), c) {
		r.log.Warn("reload: this key changes with the next start only", "key", k)
	}
	r.certs.set(c, certs)
	r.signer.Store(signer)
	r.warnUnsigned(c)
	r.queue.SetSchedule(schedule(c))
	r.queue.SetPaused(c.Delivery.Paused)
	r.delivery.Set(deliverySettings)
	r.setLevel(c)
	r.config.Store(c)
	r.log.Info("configuration reloaded", "file", configName(c))
	return nil
}

// needRestart names the keys whose change has no effect before the next start.
func needRestart(old, c *config.Config) []string {
	var keys []string
	for key, same := range map[string]bool{
		"hostname":          old.Hostname == c.Hostname,
		"data_dir":          old.DataDir == c.DataDir,
		"dns":               slices.Equal(old.DNS.Servers, c.DNS.Servers) && old.DNS.TrustAD == c.DNS.TrustAD,
		"delivery.ca_file":  old.Delivery.CAFile == c.Delivery.CAFile,
		"sts.enabled":       old.STS == c.STS,
		"tlsrpt.enabled":    old.TLSRPT.Enabled == c.TLSRPT.Enabled,
		"limits.free_space": old.Limits.FreeSpace == c.Limits.FreeSpace,
		"admin":             old.Admin == c.Admin,
		"log.format":        old.Log.Format == c.Log.Format,
		"listen (address, tls, min_tls, proxy_protocol)": slices.EqualFunc(old.Listen, c.Listen, func(a, b config.Listen) bool {
			return a.Address == b.Address && a.TLS == b.TLS && a.MinTLS == b.MinTLS && slices.Equal(a.ProxyProtocol, b.ProxyProtocol)
		}),
	} {
		if !same {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (r *Relay) setLevel(c *config.Config) {
	if r.o.Level != nil {
		_ = r.o.Level.UnmarshalText([]byte(c.Log.Level)) // checked by config
	}
}
