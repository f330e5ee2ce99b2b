package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// certificateCheck is how often the files are checked for a change.
const certificateCheck = 30 * time.Second

// Certificates are the relay's own: read from files, which are watched, or
// self-signed.
type Certificates struct {
	now atomic.Pointer[[]tls.Certificate]

	mu      sync.Mutex
	files   [2]string // certificate and key; empty: self-signed
	seen    [2]fileState
	problem string // of the files since the last change, which is logged once
}

// fileState is what tells that a file has changed.
type fileState struct {
	modified time.Time
	size     int64
}

// NewCertificates returns certificates that were read from files of a certificate
// and its key; both names are "" where they are self-signed.
func NewCertificates(certs []tls.Certificate, file, key string) *Certificates {
	c := &Certificates{}
	c.Set(certs, file, key)
	return c
}

// Set replaces the certificates. The arguments are those of NewCertificates.
func (c *Certificates) Set(certs []tls.Certificate, file, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = [2]string{file, key}
	c.seen = [2]fileState{} // they may have changed since they were read: they are read again
	c.now.Store(&certs)
}

// State returns the certificates in use, the file that they come from ("" where
// they are self-signed), and why its last change cannot be used ("" where it can).
func (c *Certificates) State() (certs []tls.Certificate, file, problem string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.now.Load(), c.files[0], c.problem
}

// ServerTLS returns the TLS configuration of a listener. It follows changes of the
// certificates.
func (c *Certificates) ServerTLS(minimum uint16) *tls.Config {
	base := serverTLS(minimum)
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		current := serverTLS(minimum)
		current.Certificates = *c.now.Load()
		return current, nil
	}
	base.Certificates = *c.now.Load()
	return base
}

// serverTLS also offers the cipher suites of old devices if the minimum version is an
// old one: without them the version alone would not help these devices.
func serverTLS(minimum uint16) *tls.Config {
	c := &tls.Config{MinVersion: minimum}
	if minimum < tls.VersionTLS12 {
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			c.CipherSuites = append(c.CipherSuites, s.ID)
		}
	}
	return c
}

// TLSVersion returns the version of "1.0", "1.1", "1.2" or "1.3", 1.2 for "".
func TLSVersion(s string) uint16 {
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

// Watch reads the files again when they change, until ctx ends.
func (c *Certificates) Watch(ctx context.Context, log *slog.Logger) {
	t := time.NewTicker(certificateCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.refresh(log)
		}
	}
}

// refresh reads the files again if they have changed. A pair that cannot be read, or
// whose certificate and key do not match yet, is tried again the next time; the old
// one stays.
func (c *Certificates) refresh(log *slog.Logger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[0] == "" {
		return
	}
	var states [2]fileState
	for i, f := range c.files {
		st, err := os.Stat(f)
		if err != nil {
			c.report(log, err)
			return
		}
		states[i] = fileState{st.ModTime(), st.Size()}
	}
	if states == c.seen {
		return
	}
	cert, err := tls.LoadX509KeyPair(c.files[0], c.files[1])
	if err != nil {
		c.report(log, err)
		return
	}
	c.seen, c.problem = states, ""
	if old := *c.now.Load(); len(old) == 1 && slices.EqualFunc(old[0].Certificate, cert.Certificate, bytes.Equal) {
		return
	}
	c.now.Store(&[]tls.Certificate{cert})
	log.Info("the relay's certificate was read again", "not_after", cert.Leaf.NotAfter)
}

// report logs why the files cannot be used, each reason once.
func (c *Certificates) report(log *slog.Logger, err error) {
	if c.problem != err.Error() {
		c.problem = err.Error()
		log.Warn("the relay's certificate has changed and cannot be used; the old one stays", "error", err)
	}
}
