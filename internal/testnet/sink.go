package testnet

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// Sink is an SMTP host for benchmarks, with TLS and PIPELINING: it reads, answers with
// nearly fixed octets, and allocates nothing for a message, so that what a benchmark counts is
// the relay's.
type Sink struct {
	Name string

	greeting string // and what EHLO is answered within TLS
	tls      *tls.Config
	listener net.Listener
	messages atomic.Int64
	took     chan struct{} // capacity 1: a message was taken

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

// AddSink starts a Sink with an address record. chunking reports whether it offers CHUNKING.
func (n *Net) AddSink(name string, chunking bool) (*Sink, error) {
	cert, err := n.CA.Issue(name, CertSpec{})
	if err != nil {
		return nil, err
	}
	ip := n.address()
	s := &Sink{Name: name, greeting: "250-" + name + "\r\n250-PIPELINING\r\n250 8BITMIME\r\n", took: make(chan struct{}, 1)}
	if chunking {
		s.greeting = "250-" + name + "\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n"
	}
	s.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	if s.listener, err = n.listen(ip, "25"); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.sinks = append(n.sinks, s)
	n.mu.Unlock()
	n.wg.Go(func() {
		for {
			c, err := s.listener.Accept()
			if err != nil {
				return
			}
			if s.track(c) {
				n.wg.Go(func() { s.serve(c) })
			}
		}
	})
	return s, n.DNS.Add(fmt.Sprintf("%s. 60 IN A %s", name, ip))
}

// Addr is where the host really listens.
func (s *Sink) Addr() string { return s.listener.Addr().String() }

// Messages is how many messages were taken.
func (s *Sink) Messages() int64 { return s.messages.Load() }

// Wait waits until n messages were taken since the start.
func (s *Sink) Wait(n int64) {
	for s.messages.Load() < n {
		<-s.took
	}
}

func (s *Sink) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns = append(s.conns, c)
	return true
}

func (s *Sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.conns {
		c.Close()
	}
}

// serve answers one session until it ends.
func (s *Sink) serve(c net.Conn) {
	defer c.Close()
	if _, err := fmt.Fprintf(c, "220 %s\r\n", s.Name); err != nil {
		return
	}
	p := &sinkSession{s: s}
	p.use(c)
	for p.command() {
	}
}

// sinkSession is one session of a Sink.
type sinkSession struct {
	s    *Sink
	conn net.Conn
	br   *bufio.Reader
	bw   *bufio.Writer
	n    int // messages
}

func (p *sinkSession) use(c net.Conn) {
	p.conn, p.br, p.bw = c, bufio.NewReaderSize(c, 32<<10), bufio.NewWriter(c)
}

// command reads a command and answers it, with those that came together with it.
func (p *sinkSession) command() bool {
	line, err := p.br.ReadSlice('\n')
	if err != nil || len(line) < 5 {
		return false
	}
	switch string(line[:4]) {
	case "EHLO":
		if _, secure := p.conn.(*tls.Conn); secure {
			return p.say(p.s.greeting)
		}
		return p.say("250-" + p.s.Name + "\r\n250 STARTTLS\r\n")
	case "STAR":
		if !p.say("220 2.0.0 go on\r\n") {
			return false
		}
		p.use(tls.Server(p.conn, p.s.tls))
		return true
	case "DATA":
		return p.say("354 go on\r\n") && p.data() && p.taken()
	case "BDAT":
		return p.chunk(line)
	case "QUIT":
		p.say("221 2.0.0 bye\r\n")
		return false
	}
	return p.say("250 2.1.0 ok\r\n")
}

// say sends a reply once no command waits for another one.
func (p *sinkSession) say(reply string) bool {
	_, _ = p.bw.WriteString(reply) // an error stays in the writer
	return p.br.Buffered() > 0 || p.bw.Flush() == nil
}

func (p *sinkSession) data() bool {
	for {
		line, err := p.br.ReadSlice('\n')
		if err != nil {
			return false
		}
		if string(line) == ".\r\n" {
			return true
		}
	}
}

func (p *sinkSession) chunk(line []byte) bool {
	n := 0
	for _, c := range line[len("BDAT "):] {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	last := bytes.HasSuffix(line, []byte(" LAST\r\n"))
	if _, err := p.br.Discard(n); err != nil {
		return false
	}
	if last {
		return p.taken()
	}
	return p.say("250 2.0.0 go on\r\n")
}

// taken answers a message, each with another text, and counts it.
func (p *sinkSession) taken() bool {
	p.n++
	_, _ = p.bw.Write(strconv.AppendInt(append(p.bw.AvailableBuffer(), "250 2.0.0 queued as 4Y"...), int64(p.n), 10))
	if !p.say("\r\n") {
		return false
	}
	p.s.messages.Add(1)
	select {
	case p.s.took <- struct{}{}:
	default:
	}
	return true
}
