package received

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/clientnet"
	"github.com/stsrelay/stsrelay/tlsrpt/inbound"
)

const (
	// maxPost is the size of a posted report, compressed or not, in octets.
	maxPost = 4 << 20
	// postsAnHour bounds the posts of one network (an IPv4 address, an IPv6 /64), postsAtOnce
	// those that are read at the same time, one of each network.
	postsAnHour = 60
	postsAtOnce = 8
	maxNetworks = 10_000
	// postTime is the time in which a post must come.
	postTime = 15 * time.Second
)

// Handler returns what takes reports by HTTPS (RFC 8460, 3 and 5.4). Nobody authenticates
// there, so only reports about Settings.Domains are kept; where there are none, no report is
// taken.
func (a *Archive) Handler() http.Handler {
	return &poster{archive: a, networks: make(map[string]*network), reading: make(chan struct{}, postsAtOnce)}
}

// poster takes reports by HTTPS.
type poster struct {
	archive *Archive
	reading chan struct{}

	mu       sync.Mutex
	hour     time.Time
	networks map[string]*network // that have posted in this hour
}

// network is whoever posts from one network.
type network struct {
	posts int
	turn  chan struct{} // held while a post is read: slow ones of a network hold up no other
}

// ServeHTTP implements http.Handler.
func (p *poster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(p.archive.o.Settings().Domains) == 0 {
		http.Error(w, "no domains are configured whose reports are taken here", http.StatusNotFound)
		return
	}
	n := p.mayPost(networkOf(r.RemoteAddr))
	if n == nil {
		w.Header().Set("Retry-After", "3600")
		http.Error(w, "too many reports from this address; try again in an hour", http.StatusTooManyRequests)
		return
	}
	for _, place := range []chan struct{}{n.turn, p.reading} {
		select {
		case place <- struct{}{}:
			defer func() { <-place }()
		case <-r.Context().Done():
			return
		}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(postTime)) // the server has one, too
	results, err := p.archive.Add(r.Context(), http.MaxBytesReader(w, r.Body, maxPost), "", ByHTTPS)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	for _, result := range results {
		p.archive.o.Logger.Info("TLS report received", "client", r.RemoteAddr, "domain", result.Domain, "sender", result.Sender, "outcome", string(result.Outcome), "why", result.Why)
		switch result.Outcome {
		case Unread:
			http.Error(w, inbound.ErrNoReport.Error(), http.StatusUnsupportedMediaType)
			return
		case Foreign:
			http.Error(w, "reports about this domain are not taken here", http.StatusNotFound)
			return
		}
	}
	w.WriteHeader(http.StatusCreated)
}

// refuse answers a post that could not be taken.
func (p *poster) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p.archive.o.Logger.Warn("a posted TLS report could not be taken", "client", r.RemoteAddr, "error", err)
	large, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge: // no other try would help
		http.Error(w, fmt.Sprintf("a report may have %d octets", large.Limit), http.StatusRequestEntityTooLarge)
	case errors.Is(err, os.ErrDeadlineExceeded):
		http.Error(w, fmt.Sprintf("a report must come within %s", postTime), http.StatusRequestTimeout)
	default:
		http.Error(w, "the report cannot be stored now", http.StatusServiceUnavailable)
	}
}

// mayPost counts a post of a network, and returns the network if the post may be.
func (p *poster) mayPost(name string) *network {
	hour := p.archive.o.Now().Truncate(time.Hour)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !hour.Equal(p.hour) {
		p.hour = hour
		clear(p.networks)
	}
	n := p.networks[name]
	if n == nil && len(p.networks) < maxNetworks {
		n = &network{turn: make(chan struct{}, 1)}
		p.networks[name] = n
	}
	if n == nil || n.posts >= postsAnHour {
		return nil
	}
	n.posts++
	return n
}

// networkOf returns the network that an address is counted with.
func networkOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" {
		return host
	}
	return clientnet.Of(a.Unmap()).String()
}
