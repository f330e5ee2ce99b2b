package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay/acme"
	"github.com/stsrelay/stsrelay/relay/publisher"
)

// domainsCheck is how often the files with published domains are looked at.
const domainsCheck = 30 * time.Second

// openPublisher binds the addresses of [publisher] and puts the policies of [[publish]] into
// force.
func (r *Relay) openPublisher(ctx context.Context, c *config.Config) error {
	r.publisher = publisher.New(publisher.Options{
		Store: r.disk, Host: c.PublisherHost(), Counted: func(result string) { r.metrics.PolicyRequest(result, 1) }, Now: r.o.Now, Logger: r.log,
		Challenge: func(w http.ResponseWriter, q *http.Request) bool { return r.acme != nil && r.acme.Challenge(w, q) },
	})
	if c.Reports.HTTPS {
		r.publisher.Handle("POST /tlsrpt", r.received.Handler())
	}
	if c.Publisher.HTTPS != "" {
		if err := r.setPublished(ctx, c); err != nil {
			return err
		}
	}
	if c.Publisher.HTTPS != "" {
		r.watch = &publisher.Watch{Publisher: r.publisher, View: r.publishView, After: r.o.After, Done: r.tellReady}
	}
	a := publisher.Addresses{HTTPS: c.Publisher.HTTPS, HTTP: c.Publisher.HTTP, ProxyFrom: prefixes(c.Publisher.ProxyProtocol)}
	switch c.Publisher.TLS {
	case "files":
		r.files = &publisher.Files{Dir: c.Publisher.CertificateDir, Known: r.published, Now: r.now}
		a.Certificate = r.files.Certificate
	case "acme":
		a.Certificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return r.acme.Certificate(hello) }
		a.Protocols = []string{acme.Protocol}
	}
	var err error
	if r.publishing, err = r.publisher.Listen(a); err != nil {
		return err
	}
	return r.openACME(c)
}

// PublisherAddr returns the address at which policies are served, nil for none.
func (r *Relay) PublisherAddr() net.Addr {
	return r.publishing.HTTPSAddr()
}

// runPublisher runs what belongs to published policies and certificates until ctx ends.
func (r *Relay) runPublisher(ctx context.Context, parts *sync.WaitGroup) {
	c := r.config.Load()
	if a := r.publishing.HTTPSAddr(); a != nil {
		r.log.Info("policies are served", "address", a.String(), "domains", len(r.publisher.Hosts()))
		parts.Go(func() { r.publisher.Run(ctx) })
		parts.Go(func() { r.watchDomains(ctx) })
		parts.Go(func() { r.watch.Run(ctx) })
	}
	if r.acme == nil {
		return
	}
	r.wantCertificates(c)
	parts.Go(func() { r.acme.Run(ctx) })
	if c.TLS.ACME {
		parts.Go(func() { r.watchOwnCertificate(ctx) })
	}
}

// published reports whether a certificate for a name is ours to have.
func (r *Relay) published(name string) bool {
	return name == r.config.Load().PublisherHost() || slices.Contains(r.publisher.Hosts(), name)
}

func (r *Relay) setPublished(ctx context.Context, c *config.Config) error {
	domains, err := c.Published()
	if err != nil {
		return fmt.Errorf("%s: %w", configName(c), err)
	}
	if err := r.publisher.Set(ctx, domains); err != nil {
		return err
	}
	r.wantCertificates(c)
	return nil
}

// watchDomains reads the files with published domains again when they change, until ctx
// ends. One that cannot be read leaves what is published as it is, and so does one that is
// still being written.
func (r *Relay) watchDomains(ctx context.Context) {
	t := time.NewTicker(domainsCheck)
	defer t.Stop()
	files := settling{used: changedFiles(r.config.Load())}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if !files.changed(changedFiles(r.config.Load())) {
				continue
			}
			r.reloading.Lock()
			err := r.setPublished(ctx, r.config.Load())
			r.reloading.Unlock()
			if err != nil {
				r.log.Error("a file with published domains has changed and cannot be used; what is published stays", "error", err)
			} else {
				r.log.Info("a file with published domains was read again")
			}
		}
	}
}

// settling tells when files that are looked at now and then have changed and stay as they are:
// half a file of domains would take back the policies of the other half.
type settling struct{ used, last []string }

// changed reports whether files are to be read, which are as now says.
func (s *settling) changed(now []string) bool {
	settled := slices.Equal(s.last, now)
	s.last = now
	if !settled || slices.Equal(s.used, now) {
		return false
	}
	s.used = now
	return true
}

// changedFiles is what tells that a file with domains has changed.
func changedFiles(c *config.Config) (out []string) {
	for _, p := range c.Publish {
		if p.DomainsFile == "" {
			continue
		}
		info, err := os.Stat(p.DomainsFile)
		if err != nil {
			out = append(out, err.Error())
			continue
		}
		out = append(out, fmt.Sprint(p.DomainsFile, info.ModTime(), info.Size()))
	}
	return out
}
