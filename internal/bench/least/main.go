//go:build linux

// Command least is the least that a durable relay can do, to compare with: it
// takes mail in clear, appends it to one log with an fdatasync that all who wait
// share, answers, and sends it over TLS sessions that are verified and used again,
// one message after the other. It has no queue, no policies, no retries and no
// reports, and it forgets what it could not send.
//
//	go run ./internal/bench/least -listen 127.0.0.1:2525 -log /tmp/least.log -ca ca.pem -routes routes
//
// A line of the routes is: domain, host name, address.
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/textproto"
	"os"
	"strings"
	"sync/atomic"
)

// perHost is how many sessions a host gets.
const perHost = 10

// mail is one message, with its trace header.
type mail struct {
	from, to string
	content  []byte
	written  chan error
	number   uint64 // in Badger
}

// relay is what its sessions share.
type relay struct {
	log    func(batch []*mail) error // appends, and comes back when it is on the disk
	done   func(m *mail)             // m is delivered
	commit chan *mail
	hosts  map[string]*host // by domain of the recipient
	next   atomic.Uint64
	prefix string
}

// host is where mail goes, and what waits for it.
type host struct {
	name, addr string
	roots      *x509.CertPool
	mail       chan *mail
	done       func(m *mail)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:2525", "address")
	file := flag.String("log", "least.log", "the log of what was accepted")
	ca := flag.String("ca", "", "file of the authorities of the hosts")
	inBadger := flag.Bool("badger", false, "the log is a Badger database")
	routes := flag.String("routes", "", "file of the hosts; none: mail is accepted and not sent")
	flag.Parse()
	write, done, err := openLog(*file, *inBadger)
	r := &relay{log: write, done: done, commit: make(chan *mail, 4096), hosts: make(map[string]*host), prefix: strings.ToUpper(rand.Text())[:10]}
	l, err2 := net.Listen("tcp", *listen)
	if err := errors.Join(err, err2, r.readRoutes(*routes, *ca)); err != nil {
		log.Fatal(err)
	}
	go r.write()
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() { _ = r.serve(c) }()
	}
}

func (r *relay) readRoutes(file, ca string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(ca)
	data, err2 := os.ReadFile(file)
	roots := x509.NewCertPool()
	if err := errors.Join(err, err2); err != nil || !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("read authorities and routes: %w", err)
	}
	known := make(map[string]*host)
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if known[f[1]] == nil {
			h := &host{name: f[1], addr: f[2], roots: roots, mail: make(chan *mail, 100_000), done: r.done}
			known[f[1]] = h
			for range perHost {
				go h.send()
			}
		}
		r.hosts[f[0]] = known[f[1]]
	}
	return nil
}

// write appends all that waits to the log, with one fdatasync, and answers.
func (r *relay) write() {
	var batch []*mail
	for m := range r.commit {
		batch = append(batch[:0], m)
		for more := true; more; {
			select {
			case m := <-r.commit:
				batch = append(batch, m)
			default:
				more = false
			}
		}
		err := r.log(batch)
		for _, m := range batch {
			m.written <- err
		}
	}
}

// serve is one session of a client.
func (r *relay) serve(conn net.Conn) error {
	defer conn.Close()
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 4<<10)
	say := func(s string) error {
		_, _ = out.WriteString(s + "\r\n")
		if in.Buffered() > 0 {
			return nil // there are more commands: their replies go together
		}
		return out.Flush()
	}
	err := say("220 least ESMTP")
	for m := new(mail); err == nil; {
		var line string
		line, err = in.ReadString('\n')
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			err = say("250-least\r\n250 PIPELINING")
		case "MAIL":
			m = &mail{from: address(rest), written: make(chan error, 1)}
			err = say("250 2.1.0 Ok")
		case "RCPT":
			m.to = address(rest)
			err = say("250 2.1.5 Ok")
		case "DATA":
			_ = say("354 Go ahead")
			if err = out.Flush(); err == nil {
				err = r.content(in, m, say)
			}
		case "QUIT":
			return say("221 2.0.0 Bye")
		}
	}
	return err
}

// address is what stands between angle brackets.
func address(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}

// content takes the content of a message, and answers when it is on the disk.
func (r *relay) content(in *bufio.Reader, m *mail, say func(string) error) error {
	id := fmt.Sprintf("%s%016d", r.prefix, r.next.Add(1))
	m.content = fmt.Appendf(make([]byte, 0, 12<<10), "Received: from load by least with ESMTP id %s\r\n", id)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line[0] == '.' {
			if line = line[1:]; len(line) == 2 {
				break
			}
		}
		m.content = append(m.content, line...)
	}
	r.commit <- m
	if err := <-m.written; err != nil {
		return say("451 4.3.0 " + err.Error())
	}
	if h := r.hosts[m.to[strings.LastIndexByte(m.to, '@')+1:]]; h != nil {
		h.mail <- m
	}
	return say("250 2.0.0 Ok: queued as " + id)
}

// send is one session to a host at a time, for all that comes.
func (h *host) send() {
	var c *tls.Conn
	var in *bufio.Reader
	for m := range h.mail {
		var err error
		if c == nil {
			c, in, err = h.dial()
		}
		if err == nil {
			err = transfer(c, in, m)
		}
		if err != nil {
			log.Print("lost: ", err)
			c = nil
		}
		h.done(m)
	}
}

func (h *host) dial() (*tls.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReader(conn)
	err = errors.Join(talk(conn, in, "EHLO least\r\n", 220, 250), talk(conn, in, "STARTTLS\r\n", 220))
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	c := tls.Client(conn, &tls.Config{ServerName: h.name, RootCAs: h.roots, MinVersion: tls.VersionTLS12})
	in = bufio.NewReader(c)
	return c, in, talk(c, in, "EHLO least\r\n", 250)
}

// transfer sends one message: the envelope and the content in one write.
func transfer(c net.Conn, in *bufio.Reader, m *mail) error {
	b := fmt.Appendf(make([]byte, 0, len(m.content)+256), "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n", m.from, m.to, len(m.content))
	return talk(c, in, string(append(b, m.content...)), 250, 250, 250)
}

// talk writes s and reads the replies to it.
func talk(c net.Conn, in *bufio.Reader, s string, codes ...int) error {
	if _, err := c.Write([]byte(s)); err != nil {
		return err
	}
	for _, code := range codes {
		if _, _, err := (&textproto.Reader{R: in}).ReadResponse(code); err != nil {
			return err
		}
	}
	return nil
}
