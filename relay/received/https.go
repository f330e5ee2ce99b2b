package received

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/tlsrpt/inbound"
)

const (
	// maxPost is the size of a posted report, compressed or not, in octets.
	maxPost = 4 << 20
	// postsAnHour bounds the posts of one network (an IPv4 address, an IPv6 /64), postsAtOnce
	// those that are read at the same time.
	postsAnHour = 60
	postsAtOnce = 4
	maxNetworks = 10_000
)

// Handler returns what takes reports by HTTPS (RFC 8460, 3 and 5.4). Nobody authenticates
// there, so only reports about Settings.Domains are kept; where there are none, no report is
// taken.
func (a *Archive) Handler() http.Handler {
	return &poster{archive: a, posts: make(map[string]int), reading: make(chan struct{}, postsAtOnce)}
}

// poster takes reports by HTTPS.
type poster struct {
	archive *Archive
	reading chan struct{}

	mu    sync.Mutex
	hour  time.Time
	posts map[string]int // of this hour, by network
}

// ServeHTTP implements http.Handler.
func (p *poster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(p.archive.o.Settings().Domains) == 0 {
		http.Error(w, "no domains are configured whose reports are taken here", http.StatusNotFound)
		return
	}
	if !p.mayPost(networkOf(r.RemoteAddr)) {
		w.Header().Set("Retry-After", "3600")
		http.Error(w, "too many reports from this address; try again in an hour", http.StatusTooManyRequests)
		return
	}
	select {
	case p.reading <- struct{}{}:
		defer func() { <-p.reading }()
	case <-r.Context().Done():
		return
	}
	results, err := p.archive.Add(r.Context(), http.MaxBytesReader(w, r.Body, maxPost), "", ByHTTPS)
	if err != nil {
		p.archive.o.Logger.Warn("a posted TLS report could not be taken", "client", r.RemoteAddr, "error", err)
		http.Error(w, "the report cannot be stored now, or is too large", http.StatusServiceUnavailable)
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

// mayPost counts a post of a network, and reports whether it may be.
func (p *poster) mayPost(network string) bool {
	hour := p.archive.o.Now().Truncate(time.Hour)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !hour.Equal(p.hour) {
		p.hour = hour
		clear(p.posts)
	}
	if p.posts[network] >= postsAnHour || p.posts[network] == 0 && len(p.posts) >= maxNetworks {
		return false
	}
	p.posts[network]++
	return true
}

// networkOf returns the network that an address is counted with.
func networkOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	ip := net.ParseIP(host)
	if ip == nil || ip.To4() != nil {
		return host
	}
	return ip.Mask(net.CIDRMask(64, 128)).String()
}
