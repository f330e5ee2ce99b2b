package dnsclient

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Server is a DNS server as it is configured.
type Server struct {
	Address netip.AddrPort
	// TLS says DNS over TLS (RFC 7858), Name the name in its certificate; "":
	// the certificate must name the address.
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

// server is a Server in use.
type server struct {
	Server
	believed bool
	why      string
	timeout  time.Duration
	udp, tcp dns.Client

	mu   sync.Mutex
	kept *dns.Conn // an idle connection of DNS over TLS
}

func newServer(s Server, o Options) *server {
	out := &server{Server: s, timeout: o.Timeout}
	out.believed, out.why = believe(s, o.TrustAD)
	out.udp = dns.Client{Net: "udp", Timeout: o.Timeout, UDPSize: udpSize}
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

// believe says whether a server's AD bit counts: whoever can change the answer
// on its way could set it.
func believe(s Server, trust string) (bool, string) {
	switch {
	case trust == "always":
		return true, `trust_ad = "always"`
	case trust == "never":
		return false, `trust_ad = "never"`
	case s.TLS:
		return true, "DNS over TLS"
	case s.Address.Addr().Unmap() == netip.AddrFrom4([4]byte{127, 0, 0, 11}):
		return false, "127.0.0.11 is a container's forwarder and validates nothing"
	case s.Address.Addr().Unmap().IsLoopback():
		return true, "it is on this machine"
	}
	return false, "answers could be changed on the way from it; use a validating resolver on this machine, or DNS over TLS"
}

// ask makes one exchange, over TCP where UDP was cut short.
func (s *server) ask(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	if s.TLS {
		return s.askTLS(ctx, m)
	}
	r, _, err := s.udp.ExchangeContext(ctx, m, s.Address.String())
	if err == nil && r.Truncated {
		r, _, err = s.tcp.ExchangeContext(ctx, m, s.Address.String())
	}
	if err != nil {
		return nil, plain(err)
	}
	return r, checkAnswer(m, r)
}

// askTLS uses the kept connection, or a new one where there is none, or where
// the server has closed it meanwhile.
func (s *server) askTLS(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	conn, reused, err := s.connection(ctx)
	for err == nil {
		var r *dns.Msg
		r, _, err = s.tcp.ExchangeWithConnContext(ctx, m, conn)
		if err == nil {
			s.keep(conn)
			return r, checkAnswer(m, r)
		}
		conn.Close()
		if !reused {
			break
		}
		reused = false
		conn, err = s.tcp.DialContext(ctx, s.Address.String())
	}
	return nil, plain(err)
}

func (s *server) connection(ctx context.Context) (conn *dns.Conn, reused bool, err error) {
	s.mu.Lock()
	conn, s.kept = s.kept, nil
	s.mu.Unlock()
	if conn != nil {
		return conn, true, nil
	}
	conn, err = s.tcp.DialContext(ctx, s.Address.String())
	return conn, false, err
}

func (s *server) keep(conn *dns.Conn) {
	s.mu.Lock()
	old := s.kept
	s.kept = conn
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept != nil {
		s.kept.Close()
		s.kept = nil
	}
}

// checkAnswer refuses what does not answer the question.
func checkAnswer(m, r *dns.Msg) error {
	if len(r.Question) != 1 || !strings.EqualFold(r.Question[0].Name, m.Question[0].Name) || r.Question[0].Qtype != m.Question[0].Qtype || !r.Response {
		return errors.New("the answer is to another question")
	}
	return nil
}

// plain gives network errors words that a postmaster knows.
func plain(err error) error {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return fmt.Errorf("timeout: %w", err)
	}
	return err
}

// readResolvConf returns the name servers of a resolv.conf file; changed is
// false where the file is as it was at the time seen.
func readResolvConf(file string, seen *time.Time) (addrs []netip.Addr, changed bool, err error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, false, fmt.Errorf("read the DNS servers: %w; set dns.servers", err)
	}
	if st.ModTime().Equal(*seen) {
		return nil, false, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, false, fmt.Errorf("read the DNS servers: %w; set dns.servers", err)
	}
	*seen = st.ModTime()
	addrs = parseResolvConf(data)
	if len(addrs) == 0 {
		// The default of resolv.conf(5).
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return addrs, true, nil
}

func parseResolvConf(data []byte) (addrs []netip.Addr) {
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
