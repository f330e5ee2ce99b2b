package testnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// HelloFault is what a host, or a firewall before it, does with a ClientHello
// whose TLS record has more than 1,000 octets.
type HelloFault uint8

// The faults.
const (
	// HelloDrop closes the connection.
	HelloDrop HelloFault = iota + 1
	// HelloStall swallows it.
	HelloStall
	// HelloSegment reads the first TCP segment only and answers with an alert.
	HelloSegment
)

const (
	maxHello = 1000
	segment  = 1448
)

var errLargeHello = errors.New("the ClientHello is too large")

// helloConn is a connection with a HelloFault.
type helloConn struct {
	net.Conn
	fault HelloFault
	read  io.Reader // from the ClientHello on
}

// Read implements net.Conn.
func (c *helloConn) Read(p []byte) (int, error) {
	if c.fault == 0 {
		return c.Conn.Read(p)
	}
	if c.read == nil {
		header := make([]byte, 5)
		if _, err := io.ReadFull(c.Conn, header); err != nil {
			return 0, err
		}
		if len(header)+int(binary.BigEndian.Uint16(header[3:])) > maxHello {
			return 0, c.fail()
		}
		c.read = io.MultiReader(bytes.NewReader(header), c.Conn)
	}
	return c.read.Read(p)
}

// fail performs the fault.
func (c *helloConn) fail() error {
	switch c.fault {
	case HelloStall:
		_, _ = io.Copy(io.Discard, c.Conn) // until the client gives up
	case HelloSegment:
		_, _ = io.ReadFull(c.Conn, make([]byte, segment-5))
		_, _ = c.Write([]byte{21, 3, 1, 0, 2, 2, 50}) // a fatal alert: decode_error
	}
	return errLargeHello
}

// helloListener gives its connections the fault of the moment.
type helloListener struct {
	net.Listener
	fault func() HelloFault
}

// Accept implements net.Listener.
func (l helloListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &helloConn{Conn: c, fault: l.fault()}, nil
}
