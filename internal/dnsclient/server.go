package dnsclient

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Server is a DNS server as it is configured.
type Server struct {
	Address netip.AddrPort
	// TLS reports whether it is asked over TLS (RFC 7858); Name is the name in its
	// certificate; "": the certificate must name the address.
	TLS  bool
	Name string
}

// ParseServer reads a server: "IP", "IP:port", "[IPv6]:port" or
// "tls://IP[:port][#name]".
func ParseServer(s string) (Server, error) {
	bad := func() (Server, error) {
		return Server{}, fmt.Errorf("%q is not a DNS server: write 127.0.0.1, 127.0.0.1:53, [::1]:53 or tls://9.9.9.9:853#dns.quad9.net", s)
	}
	out := Server{}
	rest, isTLS := strings.CutPrefix(s, "tls://")
	port := uint16(53)
	if isTLS {
		out.TLS, port = true, 853
		rest, out.Name, _ = strings.Cut(rest, "#")
	}
	if a, err := netip.ParseAddr(strings.Trim(rest, "[]")); err == nil {
		out.Address = netip.AddrPortFrom(a, port)
		return out, nil
	}
	ap, err := netip.ParseAddrPort(rest)
	if err != nil || ap.Port() == 0 {
		return bad()
	}
	out.Address = ap
	return out, nil
}

// believe reports whether the AD bit of a server may count, by where it is:
// an attacker who can change the answer on its way could set it.
func believe(s Server, trust string) (bool, phrase.Phrase) {
	switch {
	case trust == trustAlways:
		return true, phrase.Quote(`trust_ad = "always"`)
	case trust == "never":
		return false, phrase.Quote(`trust_ad = "never"`)
	case s.TLS:
		return true, phrase.Quote("DNS over TLS")
	case s.Address.Addr().Unmap() == netip.AddrFrom4([4]byte{127, 0, 0, 11}):
		return false, phrase.New("127.0.0.11 is a container's forwarder and validates nothing")
	case s.Address.Addr().Unmap().IsLoopback():
		return true, phrase.New("it is on this machine")
	}
	return false, phrase.New("answers could be changed on the way from it; use a validating resolver on this machine, or DNS over TLS")
}

// trustAlways is the value of Options.TrustAD by which every AD bit counts.
const trustAlways = "always"

// server is a Server in use.
type server struct {
	Server
	// trusted reports whether the way to the server is safe; why explains it.
	trusted bool
	why     phrase.Phrase
	// always reports whether the operator vouches for the server.
	always   bool
	timeout  time.Duration
	udp, tcp dns.Client
	now      func() time.Time
	log      *slog.Logger

	probing sync.Mutex // held while the server is probed

	mu    sync.Mutex
	kept  *dns.Conn // an idle connection of DNS over TLS
	state state
}

func newServer(s Server, o Options) *server {
	out := &server{Server: s, timeout: o.Timeout, always: o.TrustAD == trustAlways, now: o.Now, log: o.Logger}
	out.trusted, out.why = believe(s, o.TrustAD)
	out.udp = dns.Client{Net: "udp", Timeout: o.Timeout, UDPSize: readSize}
	out.tcp = dns.Client{Net: "tcp", Timeout: o.Timeout}
	if s.TLS {
		name := s.Name
		if name == "" {
			name = s.Address.Addr().String()
		}
		out.tcp.Net = "tcp-tls"
		out.tcp.TLSConfig = &tls.Config{ServerName: name, RootCAs: o.Roots, MinVersion: tls.VersionTLS12}
	}
	return out
}

// close closes the kept connection.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept != nil {
		s.kept.Close()
		s.kept = nil
	}
}
