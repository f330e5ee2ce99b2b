package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay/ingress"
)

// certificateCheck is how often the files are looked at for a change.
const certificateCheck = 30 * time.Second

// certificates are the relay's own: read from files, or made by itself once.
type certificates struct {
	now atomic.Pointer[[]tls.Certificate]

	mu    sync.Mutex
	files [2]string // certificate and key; empty: self-made
	seen  [2]fileState
	told  string // the last trouble, which is logged once
}

// fileState is by what a change of a file is noticed.
type fileState struct {
	modified time.Time
	size     int64
}

func openCertificates(c *config.Config) (*certificates, error) {
	r := &certificates{}
	certs, err := readCertificates(c)
	if err != nil {
		return nil, err
	}
	r.set(c, certs)
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
	cert, err := config.ReadCertificate(&c.TLS)
	if err != nil {
		return nil, fmt.Errorf("tls.certificate: %s %w", c.TLS.Certificate, err)
	}
	return []tls.Certificate{cert}, nil
}

// set takes over what was read for a configuration.
func (r *certificates) set(c *config.Config, certs []tls.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = [2]string{c.TLS.Certificate, c.TLS.Key}
	// What changes between the reading and now is read again: nothing is seen yet.
	r.seen = [2]fileState{}
	r.now.Store(&certs)
}

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

// watch reads the files again when they change, until ctx ends.
func (r *certificates) watch(ctx context.Context, log *slog.Logger) {
	t := time.NewTicker(certificateCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			r.refresh(log)
		}
	}
}

// refresh reads the files again if they have changed. A pair that cannot be
// read, or does not fit together yet, is tried again the next time; the old one
// stays.
func (r *certificates) refresh(log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files[0] == "" {
		return
	}
	var states [2]fileState
	for i, f := range r.files {
		st, err := os.Stat(f)
		if err != nil {
			r.trouble(log, err)
			return
		}
		states[i] = fileState{st.ModTime(), st.Size()}
	}
	if states == r.seen {
		return
	}
	cert, err := tls.LoadX509KeyPair(r.files[0], r.files[1])
	if err != nil {
		r.trouble(log, err)
		return
	}
	r.seen, r.told = states, ""
	if old := *r.now.Load(); len(old) == 1 && slices.EqualFunc(old[0].Certificate, cert.Certificate, bytes.Equal) {
		return
	}
	r.now.Store(&[]tls.Certificate{cert})
	log.Info("the relay's certificate was read again", "not_after", cert.Leaf.NotAfter)
}

func (r *certificates) trouble(log *slog.Logger, err error) {
	if r.told != err.Error() {
		r.told = err.Error()
		log.Warn("the relay's certificate has changed and cannot be used; the old one stays", "error", err)
	}
}
