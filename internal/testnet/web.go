package testnet

import (
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// PolicyFaults are what a policy host does instead of answering well.
type PolicyFaults struct {
	// Down refuses connections, Stall takes them and says nothing.
	Down, Stall bool
	// UnknownName answers a ClientHello with the alert unrecognized_name, as a web
	// server does that has no site of that name.
	UnknownName bool
	// Cert replaces the certificate.
	Cert CertSpec
	// TLS11 speaks TLS 1.1 at most.
	TLS11 bool
	// Hello is what becomes of a large ClientHello.
	Hello HelloFault
	// Status replaces 200; with 3xx, Location is where it points.
	Status   int
	Location string
	// ContentType replaces text/plain; "-" sends none.
	ContentType string
	// Body replaces the policy; Endless never ends it. EmptyBody sends none.
	Body      string
	Endless   bool
	EmptyBody bool
	// Coding is the Content-Encoding, whatever was asked for: "gzip", "x-gzip",
	// "deflate" (as RFC 1950 has it), "raw deflate" (called deflate) and "endless
	// gzip", which is a bomb. With any other one the body stays as it is.
	Coding string
	// HTTP2Only speaks no other HTTP; HTTP1Only neither.
	HTTP2Only, HTTP1Only bool
	// Unframed sends a body that the end of the connection delimits, with TLS's
	// close_notify; Cut does so without.
	Unframed, Cut bool
}

// PolicyHost is the web server of one mta-sts name. It has an address of its own.
type PolicyHost struct {
	Name string
	IP   string

	net      *Net
	listener net.Listener
	server   *http.Server

	mu       sync.Mutex
	text     string
	faults   PolicyFaults
	requests []*http.Request
	done     chan struct{}
}

// web is all policy hosts.
type web struct {
	net   *Net
	mu    sync.Mutex
	sites map[string]*PolicyHost
}

// PolicyHost returns the policy host of a domain, and starts it at the first
// call.
func (n *Net) PolicyHost(domain string) (*PolicyHost, error) {
	n.web.mu.Lock()
	defer n.web.mu.Unlock()
	if s := n.web.sites[domain]; s != nil {
		return s, nil
	}
	s := &PolicyHost{Name: "mta-sts." + domain, IP: n.address(), net: n, done: make(chan struct{})}
	if err := s.start(); err != nil {
		return nil, err
	}
	if err := n.DNS.Add(fmt.Sprintf("%s. 60 IN A %s", s.Name, s.IP)); err != nil {
		return nil, err
	}
	n.web.sites[domain] = s
	return s, nil
}

func (s *PolicyHost) start() error {
	l, err := s.net.listen(s.IP, "443")
	if err != nil {
		return err
	}
	s.listener = l
	s.server = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	tlsListener := tls.NewListener(helloListener{stallable{l, s}, func() HelloFault { return s.Faults().Hello }}, &tls.Config{GetConfigForClient: s.tlsConfig})
	s.net.wg.Go(func() { _ = s.server.Serve(tlsListener) })
	return nil
}

func (s *PolicyHost) tlsConfig(*tls.ClientHelloInfo) (*tls.Config, error) {
	f := s.Faults()
	cert, err := s.net.CA.Issue(s.Name, f.Cert)
	c := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	switch {
	case f.HTTP2Only:
		c.NextProtos = []string{"h2"}
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol != "h2" {
				return errors.New("HTTP/2 only")
			}
			return nil
		}
	case f.HTTP1Only || f.Unframed || f.Cut:
		c.NextProtos = []string{"http/1.1"}
	}
	if f.TLS11 {
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	}
	return c, err
}

// stallable holds connections back while the host is to stall.
type stallable struct {
	net.Listener
	site *PolicyHost
}

func (l stallable) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		f := l.site.Faults()
		switch {
		case err == nil && f.Stall:
			l.site.net.wg.Go(func() {
				<-l.site.done
				c.Close()
			})
		case err == nil && f.UnknownName:
			l.site.net.wg.Go(func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 16<<10))
				_, _ = c.Write([]byte{21, 3, 1, 0, 2, 2, 112})
				_, _ = io.Copy(io.Discard, c)
			})
		default:
			return c, err
		}
	}
}

func (w *web) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sites {
		close(s.done)
		s.server.Close()
	}
}

func (s *PolicyHost) update(fn func(*PolicyHost)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

// Faults are those set now.
func (s *PolicyHost) Faults() PolicyFaults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// Set replaces the faults; it counts from the next connection on.
func (s *PolicyHost) Set(f PolicyFaults) error {
	down := s.Faults().Down
	s.update(func(s *PolicyHost) { s.faults = f })
	switch {
	case f.Down && !down:
		s.net.unlisten(s.listener, s.IP, "443")
		s.server.Close()
	case !f.Down && down:
		return s.start()
	}
	return nil
}

// Requests are the requests so far.
func (s *PolicyHost) Requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.requests...)
}

// ServeHTTP implements http.Handler.
func (s *PolicyHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Clone(context.Background()))
	f, text := s.faults, s.text
	s.mu.Unlock()
	if r.URL.Path != "/.well-known/mta-sts.txt" && f.Location == "" {
		http.NotFound(w, r)
		return
	}
	switch f.ContentType {
	case "":
		w.Header().Set("Content-Type", "text/plain")
	case "-":
		w.Header()["Content-Type"] = nil
	default:
		w.Header().Set("Content-Type", f.ContentType)
	}
	if f.Location != "" {
		w.Header().Set("Location", f.Location)
	}
	if f.Body != "" || f.EmptyBody {
		text = f.Body
	}
	if f.Unframed || f.Cut {
		unframed(w, text, f.Cut)
		return
	}
	var body io.Writer = w
	if f.Coding != "" {
		coder := encoder(w, f.Coding)
		defer coder.Close()
		body = coder
	}
	if f.Status != 0 {
		w.WriteHeader(f.Status)
	}
	_, _ = io.WriteString(body, text)
	if f.Coding == "endless gzip" {
		f.Endless = true
	}
	for line := strings.Repeat("x: y\n", 1000); f.Endless; {
		if _, err := io.WriteString(body, line); err != nil {
			return
		}
	}
}

// plain is a writer that compresses nothing.
type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// encoder sets the Content-Encoding and writes as it says.
func encoder(w http.ResponseWriter, coding string) io.WriteCloser {
	name := coding
	var out io.WriteCloser = plain{w}
	switch coding {
	case "gzip", "x-gzip":
		out = gzip.NewWriter(w)
	case "endless gzip":
		name, out = "gzip", gzip.NewWriter(w)
	case "deflate":
		out = zlib.NewWriter(w)
	case "raw deflate":
		name = "deflate"
		out, _ = flate.NewWriter(w, flate.DefaultCompression) // an error is of a level that there is not
	}
	w.Header().Set("Content-Encoding", name)
	return out
}

// unframed writes an answer without a length, and ends the connection; with cut
// as somebody on the way would.
func unframed(w http.ResponseWriter, text string, cut bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"+text)
	if c, ok := conn.(*tls.Conn); ok && cut {
		c.NetConn().Close()
	}
}
