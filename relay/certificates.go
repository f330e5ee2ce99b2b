package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay/ingress"
)

// certificateCheck is how often the files are looked at for a change.
const certificateCheck = 30 * time.Second

// certificates are the relay's own: read from files, or made by itself once.
type certificates struct {
	now   atomic.Pointer[[]tls.Certificate]
	files [2]string // certificate and key; empty: self-made
	seen  [2]time.Time
}

func openCertificates(c *config.Config) (*certificates, error) {
	certs, err := readCertificates(c)
	if err != nil {
		return nil, err
	}
	r := &certificates{files: [2]string{c.TLS.Certificate, c.TLS.Key}}
	r.seen, _ = r.modified()
	r.set(certs)
	return r, nil
}

func readCertificates(c *config.Config) ([]tls.Certificate, error) {
	if c.TLS.Certificate == "" {
		certs, err := ingress.SelfSigned(c.Hostname, filepath.Join(c.DataDir, "tls"))
		if err != nil {
			return nil, fmt.Errorf("the relay's own certificate: %w", err)
		}
		return certs, nil
	}
	cert, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("tls.certificate: %w", err)
	}
	return []tls.Certificate{cert}, nil
}

func (r *certificates) set(certs []tls.Certificate) { r.now.Store(&certs) }

// config is the TLS configuration of a listener. It follows changes of the
// certificate.
func (r *certificates) config(minimum uint16) *tls.Config {
	base := serverTLS(minimum)
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := serverTLS(minimum)
		c.Certificates = *r.now.Load()
		return c, nil
	}
	base.Certificates = *r.now.Load()
	return base
}

// serverTLS allows for old devices where the listener says so: the version
// alone does not do it, their cipher suites must be switched on as well.
func serverTLS(minimum uint16) *tls.Config {
	c := &tls.Config{MinVersion: minimum}
	if minimum < tls.VersionTLS12 {
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			c.CipherSuites = append(c.CipherSuites, s.ID)
		}
	}
	return c
}

func minTLS(s string) uint16 {
	switch s {
	case "1.0":
		return tls.VersionTLS10
	case "1.1":
		return tls.VersionTLS11
	case "1.3":
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

func (r *certificates) modified() (times [2]time.Time, err error) {
	for i, f := range r.files {
		st, err := os.Stat(f)
		if err != nil {
			return times, err
		}
		times[i] = st.ModTime()
	}
	return times, nil
}

// watch reads the files again when they change, until ctx ends. A pair that
// does not fit together yet is tried again later.
func (r *certificates) watch(ctx context.Context, log *slog.Logger) {
	if r.files[0] == "" {
		return
	}
	t := time.NewTicker(certificateCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		times, err := r.modified()
		if err != nil || times == r.seen {
			continue
		}
		cert, err := tls.LoadX509KeyPair(r.files[0], r.files[1])
		if err != nil {
			log.Warn("the relay's certificate has changed and cannot be read; the old one stays", "error", err)
			continue
		}
		r.seen = times
		r.set([]tls.Certificate{cert})
		log.Info("the relay's certificate was read again", "not_after", cert.Leaf.NotAfter)
	}
}
