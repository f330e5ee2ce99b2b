package testnet

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
	"time"
)

// ReportHost is a web server that takes TLS reports (RFC 8460, 5.4). It has an
// address of its own.
type ReportHost struct {
	Name string
	IP   string

	net    *Net
	server *http.Server

	mu      sync.Mutex
	cert    CertSpec
	hello   HelloFault
	answers []Answer
	posts   []Post
	changed chan struct{}
}

// Answer is the answer of a ReportHost to a post.
type Answer struct {
	Status   int
	Location string
}

// Post is a report that came in, whatever the answer was.
type Post struct {
	Path, ContentType, Authorization string
	// Report is the body, unzipped; Raw as it came.
	Report, Raw []byte
	Status      int
}

// AddReportHost starts a receiver with an address record. It answers 200 where
// nothing else was asked for.
func (n *Net) AddReportHost(name string) (*ReportHost, error) {
	h := &ReportHost{Name: name, IP: n.address(), net: n, changed: make(chan struct{})}
	l, err := n.listen(h.IP, "443")
	if err != nil {
		return nil, err
	}
	h.server = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		h.mu.Lock()
		spec := h.cert
		h.mu.Unlock()
		cert, err := n.CA.Issue(name, spec)
		return &cert, err
	}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	n.wg.Go(func() { _ = h.server.Serve(tls.NewListener(helloListener{l, h.helloFault}, config)) })
	n.mu.Lock()
	n.receivers = append(n.receivers, h)
	n.mu.Unlock()
	return h, n.DNS.Add(fmt.Sprintf("%s. 60 IN A %s", name, h.IP))
}

// Answer sets the answers to the next posts, one each; then it is 200 again.
func (h *ReportHost) Answer(answers ...Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = answers
}

// SetCert replaces the certificate.
func (h *ReportHost) SetCert(spec CertSpec) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cert = spec
}

// SetHello sets what becomes of a large ClientHello.
func (h *ReportHost) SetHello(f HelloFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hello = f
}

func (h *ReportHost) helloFault() HelloFault {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hello
}

// Posts are the posts so far.
func (h *ReportHost) Posts() []Post {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Post(nil), h.posts...)
}

// Wait waits until there were n posts.
func (h *ReportHost) Wait(ctx context.Context, n int) ([]Post, error) {
	for {
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		if posts := h.Posts(); len(posts) >= n {
			return posts, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return h.Posts(), fmt.Errorf("%s has had %d posts, not %d: %w", h.Name, len(h.Posts()), n, ctx.Err())
		}
	}
}

// ServeHTTP implements http.Handler.
func (h *ReportHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p := Post{Path: r.Method + " " + r.URL.Path, ContentType: r.Header.Get("Content-Type"), Authorization: r.Header.Get("Authorization"), Raw: raw, Status: http.StatusOK}
	if z, err := gzip.NewReader(bytes.NewReader(raw)); err == nil {
		p.Report, _ = io.ReadAll(z)
	}
	h.mu.Lock()
	if len(h.answers) > 0 {
		if to := h.answers[0].Location; to != "" {
			w.Header().Set("Location", to)
		}
		p.Status, h.answers = h.answers[0].Status, h.answers[1:]
	}
	h.posts = append(h.posts, p)
	close(h.changed)
	h.changed = make(chan struct{})
	h.mu.Unlock()
	w.WriteHeader(p.Status)
}
