package dnsclient

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/neterr"
	"github.com/stsrelay/stsrelay/internal/phrase"
)

const (
	// udpSize is the size of answers over UDP that queries allow: one that passes
	// everywhere (RFC 9715).
	udpSize = 1232
	// readSize is the size that is read: some servers send more than the query allows.
	// A larger answer is asked for over TCP.
	readSize = 8192
	// headerSize is the length of a header (RFC 1035, 4.1.1).
	headerSize   = 12
	truncatedBit = 0x02 // in the third octet
)

// Why an answer was not read.
var (
	errTruncated  = phrase.Errorf("the answer was cut short")
	errUnreadable = phrase.Errorf("the answer cannot be read")
	// errTooManyRecords is an answer all the same: asking again does not help.
	errTooManyRecords = phrase.Errorf("the answer has too many records")
)

// newQuery makes a question, with an OPT record (RFC 6891) or without.
func newQuery(name string, qtype uint16, edns bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.AuthenticatedData = true // asks for the AD bit (RFC 6840, 5.7)
	if edns {
		m.SetEdns0(udpSize, false)
	}
	return m
}

// ask makes one exchange, over TCP where the answer over UDP was cut short or
// cannot be read.
func (s *server) ask(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	if s.TLS {
		return s.askTLS(ctx, m)
	}
	conn, err := s.udp.DialContext(ctx, s.Address.String())
	if err != nil {
		return nil, plain(err)
	}
	r, err := s.exchange(ctx, conn, m)
	conn.Close()
	if errors.Is(err, errTruncated) || errors.Is(err, errUnreadable) {
		if conn, err = s.tcp.DialContext(ctx, s.Address.String()); err == nil {
			r, err = s.exchange(ctx, conn, m)
			conn.Close()
		}
	}
	return r, plain(err)
}

// askTLS uses the kept connection, or a new one where there is none, or where
// the server has closed it meanwhile.
func (s *server) askTLS(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	conn, reused, err := s.connection(ctx)
	for err == nil {
		var r *dns.Msg
		if r, err = s.exchange(ctx, conn, m); err == nil {
			s.keep(conn)
			return r, nil
		}
		conn.Close()
		if !reused || errors.Is(err, errTooManyRecords) {
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

// exchange sends m and waits for its answer. What is no answer to m is dropped,
// and the wait goes on (RFC 5452, 9.1): anybody can send that.
func (s *server) exchange(ctx context.Context, conn *dns.Conn, m *dns.Msg) (*dns.Msg, error) {
	deadline := time.Now().Add(s.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	m.Id = dns.Id()
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	for dropped := 0; ; dropped++ {
		wire, err := conn.ReadMsgHeader(nil)
		switch {
		case errors.Is(err, dns.ErrShortRead):
			continue
		case err != nil && dropped > 0:
			return nil, phrase.Errorf("%w (%d answers to other questions were dropped)", err, dropped)
		case err != nil:
			return nil, err
		case answers(wire, m):
			return unpack(wire)
		}
	}
}

// answers reports whether wire is an answer to m: response, ID and question fit.
func answers(wire []byte, m *dns.Msg) bool {
	if len(wire) < headerSize || binary.BigEndian.Uint16(wire) != m.Id || wire[2]&0x80 == 0 {
		return false
	}
	if binary.BigEndian.Uint16(wire[4:]) == 0 {
		// Who cannot read a question need not repeat it. Such an answer has nothing
		// that could be believed.
		rcode := wire[3] & 0x0f
		return rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError
	}
	name, off, err := dns.UnpackDomainName(wire, headerSize)
	q := m.Question[0]
	return err == nil && off+4 <= len(wire) && strings.EqualFold(name, q.Name) &&
		binary.BigEndian.Uint16(wire[off:]) == q.Qtype && binary.BigEndian.Uint16(wire[off+2:]) == q.Qclass
}

// unpack reads an answer. One with too many records is refused before they take
// memory; of one that was cut short nothing counts.
func unpack(wire []byte) (*dns.Msg, error) {
	if wire[2]&truncatedBit != 0 {
		return nil, errTruncated
	}
	n := 0
	for section := range 3 {
		n += int(binary.BigEndian.Uint16(wire[6+2*section:]))
	}
	if n > maxRecords {
		return nil, phrase.Errorf("%w (%d; %d are read)", errTooManyRecords, n, maxRecords)
	}
	r := new(dns.Msg)
	if err := r.Unpack(wire); err != nil {
		return nil, phrase.Errorf("%w: %w", errUnreadable, err)
	}
	return r, nil
}

// plain gives network errors words that a postmaster knows.
func plain(err error) error {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		if err = neterr.Plain(err); !strings.Contains(err.Error(), "timeout") {
			err = phrase.Errorf("timeout: %w", err)
		}
	}
	return neterr.Plain(err)
}
