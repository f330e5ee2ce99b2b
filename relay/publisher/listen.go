package publisher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"

	"github.com/stsrelay/stsrelay/internal/httpserve"
	"github.com/stsrelay/stsrelay/internal/proxied"
)

const (
	// maxConnections bounds the connections of one address.
	maxConnections = 2000
	// maxHeader bounds the header of a request, in octets.
	maxHeader = 16 << 10
)

// Addresses are where a Server listens. Those that are "" are not bound.
type Addresses struct {
	// HTTPS serves policies; HTTP answers challenges of a certificate authority.
	HTTPS, HTTP string
	// Certificate finds the certificate for a connection to HTTPS; nil: a proxy before it
	// does TLS, and it speaks plain HTTP.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Protocols are further ones of ALPN, such as that of the challenge tls-alpn-01.
	Protocols []string
	// ProxyFrom are the load balancers whose PROXY header is believed.
	ProxyFrom []netip.Prefix
}

// Server is the listeners of a Publisher.
type Server struct{ https, http *httpserve.Server }

// Listen binds the addresses.
func (p *Publisher) Listen(a Addresses) (*Server, error) {
	s := &Server{}
	var err error
	if a.HTTPS != "" {
		var c *tls.Config
		if a.Certificate != nil {
			c = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.Certificate, NextProtos: append([]string{"h2", "http/1.1"}, a.Protocols...)}
		}
		if s.https, err = p.listen("publisher.https", a.HTTPS, p, c, a); err != nil {
			return nil, err
		}
	}
	if a.HTTP != "" {
		if s.http, err = p.listen("publisher.http", a.HTTP, http.HandlerFunc(p.challengeOnly), nil, a); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (p *Publisher) listen(key, address string, h http.Handler, c *tls.Config, a Addresses) (*httpserve.Server, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	server := &http.Server{
		Handler: h, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	ln = netutil.LimitListener(ln, maxConnections)
	if a.Certificate != nil { // else all clients have the address of the proxy
		ln = share(ln, a.ProxyFrom)
	}
	ln = proxied.Listener(ln, a.ProxyFrom)
	if c != nil {
		server.TLSConfig = c
		ln = tls.NewListener(ln, c)
	}
	return httpserve.New(ln, server, p.o.Logger), nil
}

// HTTPSAddr and HTTPAddr are the addresses that are bound, nil for none.
func (s *Server) HTTPSAddr() net.Addr { return addr(s.https) }

// HTTPAddr is that of the challenges.
func (s *Server) HTTPAddr() net.Addr { return addr(s.http) }

func addr(s *httpserve.Server) net.Addr {
	if s == nil {
		return nil
	}
	return s.Addr()
}

// parts are the servers that are there.
func (s *Server) parts() (out []*httpserve.Server) {
	for _, part := range []*httpserve.Server{s.https, s.http} {
		if part != nil {
			out = append(out, part)
		}
	}
	return out
}

// Serve answers until Shutdown.
func (s *Server) Serve() error {
	parts := s.parts()
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part.Serve() }()
	}
	var err error
	for range parts {
		if e := <-ended; e != nil {
			err = errors.Join(err, e, s.Close())
		}
	}
	return err
}

// Shutdown stops. Requests under way are cut off when ctx ends.
func (s *Server) Shutdown(ctx context.Context) (err error) {
	for _, part := range s.parts() {
		err = errors.Join(err, part.Shutdown(ctx))
	}
	return err
}

// Close closes listeners that were not served.
func (s *Server) Close() (err error) {
	for _, part := range s.parts() {
		err = errors.Join(err, part.Close())
	}
	return err
}
