package testnet

import (
	"bytes"
	"net"
)

// Source is an SMTP client for benchmarks, the counterpart of Sink: it sends octets that were
// made before, and allocates nothing.
type Source struct {
	conn    net.Conn
	replies [4 << 10]byte
}

// NewSource opens a session with a server in clear, and says EHLO.
func NewSource(addr string) (*Source, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &Source{conn: conn}
	if err = s.Ask(nil, "220 "); err == nil {
		err = s.Ask([]byte("EHLO client.example\r\n"), "250 ")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// Ask sends commands or content, and waits for the reply whose last line begins with last.
func (s *Source) Ask(part []byte, last string) error {
	if _, err := s.conn.Write(part); err != nil {
		return err
	}
	for n := 0; ; {
		k, err := s.conn.Read(s.replies[n:])
		if n += k; err != nil {
			return err
		}
		if line := s.replies[bytes.LastIndexByte(s.replies[:n-1], '\n')+1 : n]; s.replies[n-1] == '\n' && string(line[:min(len(line), len(last))]) == last {
			return nil
		}
	}
}

// Close ends the session.
func (s *Source) Close() error { return s.conn.Close() }
