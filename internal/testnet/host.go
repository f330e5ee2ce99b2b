package testnet

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Faults are what an MX host does instead of working well.
type Faults struct {
	// Cert replaces the certificate.
	Cert CertSpec
	// NoStartTLS does not offer it; StartTLSReply answers it, "454 4.7.0 no".
	NoStartTLS    bool
	StartTLSReply string
	// GarbageAfter220 breaks the handshake; InjectAfter220 sends clear text
	// behind the go-ahead.
	GarbageAfter220, InjectAfter220 bool
	// KeepTickets resumes TLS sessions from before the faults, and so without a look
	// at the certificate of now; an attacker could not.
	KeepTickets bool
	// TLS11 speaks TLS 1.1 at most, TLS12 TLS 1.2.
	TLS11, TLS12 bool
	// Suites are the only cipher suites, of TLS 1.2 and earlier.
	Suites []uint16
	// Hello is what becomes of a large ClientHello.
	Hello HelloFault
	// Down refuses connections.
	Down bool
	// Replies replaces the reply to a step: "greeting", "ehlo", "mail", "rcpt",
	// "ehlo-tls" (behind STARTTLS), "data", "dot", "bdat". A 421 closes the
	// connection behind it.
	Replies map[string]string
	// Recipients replaces the reply to RCPT for an address.
	Recipients map[string]string
	// Greylist are recipients who are deferred with 450 the first time.
	Greylist []string
	// Hang says nothing from a step on, Drop closes there: the steps above, and
	// "starttls", "handshake", "body". "dot" is the end of the content by BDAT too.
	Hang, Drop string
	// Delay comes before every reply, one after the other: a slow host. Latency
	// is how long what the host writes is on its way: a far one.
	Delay, Latency time.Duration
	// SessionMessages is how many messages a session may carry; the next MAIL is
	// answered with Enough, default "421 4.7.0 enough for this session".
	SessionMessages int
	Enough          string
	// Sessions is how many sessions may be open at a time; more are greeted with
	// 421.
	Sessions int
	// TransactionRecipients is how many recipients a transaction may have; more are
	// answered with TooMany, default "452 4.5.3 too many recipients".
	TransactionRecipients int
	TooMany               string
	// ContentOctets is how much of a content the host reads before it answers with
	// TooLong, default "552 5.3.4 too long", and closes the session.
	ContentOctets int
	TooLong       string
	// DropBehindEnd throws away what was written behind the end of a message before
	// that was answered, as chasquid does. Otherwise each line of it is answered with
	// 503, as Haraka does.
	DropBehindEnd bool
	// Without leaves extensions out, "PIPELINING"; With adds them, "REQUIRETLS",
	// "CHUNKING".
	Without, With []string
	// LongLines takes lines of any length.
	LongLines bool
	// LowerCase writes the keywords in lower case.
	LowerCase bool
	// Login is "user:password": the host takes mail after AUTH only, which it
	// offers over TLS as AuthMechanism, "PLAIN" or "LOGIN".
	Login, AuthMechanism string
}

// Message is what a host has received.
type Message struct {
	From, To   string // the MAIL and RCPT lines' paths; To joined by commas
	Params     string // of MAIL
	Recipients []string
	RcptParams []string // of the RCPT lines, by recipient
	Data       []byte   // without dot-stuffing
	TLS        bool
	TLSVersion uint16
	Suite      uint16
	Group      tls.CurveID
	SNI        string
	Hello      string // of the last EHLO or HELO
	Session    int64
	User       string    // the user of AUTH
	At         time.Time // when the host had all of it
}

// Counts are a host's totals. Handshakes are all, Resumed those that resumed a
// session.
type Counts struct {
	Connections, Handshakes, Resumed, Mails, MailsInClear, Messages, Auths int64
	// Hung are the sessions in which Faults.Hang has come.
	Hung int64
}

// Host is an SMTP host.
type Host struct {
	Name string
	IP   string

	net      *Net
	listener net.Listener
	counts   struct{ connections, handshakes, resumed, mails, mailsInClear, messages, auths, hung atomic.Int64 }
	// ticketKey lets clients resume TLS sessions.
	ticketKey [32]byte

	mu       sync.Mutex
	faults   Faults
	also     []string // other addresses that lead here, "IP:port"
	cert     *tls.Certificate
	discard  bool
	keep     int // octets of each message; 0: all
	messages []Message
	breaches []string
	mended   bool
	changed  chan struct{}
	known    map[string]bool // of the greylist
	conns    map[net.Conn]bool
	closed   bool
	done     chan struct{}
}

// AddHost starts an SMTP host with an address record.
func (n *Net) AddHost(name string) (*Host, error) {
	h := &Host{Name: name, IP: n.address(), net: n, changed: make(chan struct{}), known: make(map[string]bool), conns: make(map[net.Conn]bool), done: make(chan struct{})}
	_, _ = rand.Read(h.ticketKey[:]) // crypto/rand does not fail
	if err := h.start(); err != nil {
		return nil, err
	}
	if err := n.DNS.Add(fmt.Sprintf("%s. 60 IN A %s", name, h.IP)); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.hosts[name] = h
	n.mu.Unlock()
	return h, nil
}

func (h *Host) start() error {
	l, err := h.net.listen(h.IP, "25")
	if err != nil {
		return err
	}
	h.listener = l
	h.net.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if h.track(c, true) {
				full := h.full()
				h.net.wg.Go(func() {
					h.serve(c, full)
					h.track(c, false)
				})
			}
		}
	})
	return nil
}

// ListenAddr is where the host really listens, for programs that cannot be handed a
// dialer of this Internet.
func (h *Host) ListenAddr() string { return h.listener.Addr().String() }

func (h *Host) track(c net.Conn, open bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !open || h.closed {
		delete(h.conns, c)
		c.Close()
		return false
	}
	h.conns[c] = true
	return true
}

func (h *Host) closeSessions() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
	for c := range h.conns {
		c.Close()
	}
}

// Cut closes all sessions that are open.
func (h *Host) Cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		c.Close()
	}
}

// Alias lets the host be reached on another port too.
func (h *Host) Alias(port string) {
	h.mu.Lock()
	h.also = append(h.also, net.JoinHostPort(h.IP, port))
	h.mu.Unlock()
	h.lead()
}

// Answer makes ip an address of name that leads to this host.
func (h *Host) Answer(name, ip string) error {
	rrtype := "A"
	if strings.Contains(ip, ":") {
		rrtype = "AAAA"
	}
	if err := h.net.DNS.Add(fmt.Sprintf("%s. 60 IN %s %s", name, rrtype, ip)); err != nil {
		return err
	}
	h.mu.Lock()
	h.also = append(h.also, net.JoinHostPort(ip, "25"))
	h.mu.Unlock()
	h.lead()
	return nil
}

// lead lets all addresses of the host lead to where it listens, or nowhere.
func (h *Host) lead() {
	h.mu.Lock()
	also, down := slices.Clone(h.also), h.faults.Down
	h.mu.Unlock()
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for _, a := range also {
		if down {
			delete(h.net.ports, a)
		} else {
			h.net.ports[a] = h.listener.Addr().String()
		}
	}
}

// TLSA is a TLSA record that fits the certificate that the host has now, as its
// data in a zone file: "3 1 1 <hex>". Usage 2 is about the last certificate that
// the host shows.
func (h *Host) TLSA(usage, selector, matching uint8) (string, error) {
	c, _, err := h.certificate()
	if err != nil {
		return "", err
	}
	raw := c.Certificate[0]
	if usage == 0 || usage == 2 {
		raw = c.Certificate[len(c.Certificate)-1]
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return "", err
	}
	t := new(dns.TLSA)
	err = t.Sign(int(usage), int(selector), int(matching), cert)
	return fmt.Sprintf("%d %d %d %s", usage, selector, matching, t.Certificate), err
}

// greylists reports whether a recipient of the greylist comes for the first time.
func (h *Host) greylists(recipient string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known[recipient] || !slices.Contains(h.faults.Greylist, recipient) {
		return false
	}
	h.known[recipient] = true
	return true
}

// Set replaces the faults; it counts from the next connection on.
func (h *Host) Set(f Faults) error {
	h.mu.Lock()
	down := h.faults.Down
	h.faults, h.cert, h.mended = f, nil, false
	if !f.KeepTickets {
		_, _ = rand.Read(h.ticketKey[:])
	}
	h.mu.Unlock()
	switch {
	case f.Down && !down:
		h.net.unlisten(h.listener, h.IP, "25")
	case !f.Down && down:
		if err := h.start(); err != nil {
			return err
		}
	}
	h.lead()
	return nil
}

// Mend ends the host's refusals, in sessions that are open too; what it offers
// stays.
func (h *Host) Mend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults.Replies, h.faults.Recipients, h.mended = nil, nil, true
}

// Discard lets the host count messages and not keep them, for load.
func (h *Host) Discard() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.discard = true
}

// Keep lets the host keep the first octets of each message only, for a load that lasts.
func (h *Host) Keep(octets int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep = octets
}

func (h *Host) discards() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.discard
}

// Counts are the totals so far.
func (h *Host) Counts() Counts {
	return Counts{h.counts.connections.Load(), h.counts.handshakes.Load(), h.counts.resumed.Load(), h.counts.mails.Load(), h.counts.mailsInClear.Load(), h.counts.messages.Load(), h.counts.auths.Load(), h.counts.hung.Load()}
}

// Messages are those received so far.
func (h *Host) Messages() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.messages)
}

// Breaches are the commands that came out of their order: a MAIL within a
// transaction, and what was written behind the end of a message before that was
// answered.
func (h *Host) Breaches() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.breaches)
}

func (h *Host) breach(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.breaches = append(h.breaches, what)
}

func (h *Host) isMended() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mended
}

// full reports whether more sessions are open than the host takes.
func (h *Host) full() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults.Sessions > 0 && len(h.conns) > h.faults.Sessions
}

// Wait waits until the host has received n messages and returns them all.
func (h *Host) Wait(ctx context.Context, n int) ([]Message, error) {
	for {
		h.mu.Lock()
		got, changed := slices.Clone(h.messages), h.changed
		total := int(h.counts.messages.Load())
		h.mu.Unlock()
		if total >= n {
			return got, nil
		}
		select {
		case <-changed:
		case <-h.done:
			return got, errClosed
		case <-ctx.Done():
			return got, fmt.Errorf("%s has %d of %d messages: %w", h.Name, total, n, ctx.Err())
		}
	}
}

func (h *Host) received(m Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts.messages.Add(1)
	if !h.discard {
		m.At = time.Now()
		if h.keep > 0 && len(m.Data) > h.keep {
			m.Data = bytes.Clone(m.Data[:h.keep])
		}
		h.messages = append(h.messages, m)
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// certificate is issued once and kept until the faults change. With it comes the
// key of session tickets.
func (h *Host) certificate() (c *tls.Certificate, ticketKey [32]byte, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cert == nil {
		c, err := h.net.CA.Issue(h.Name, h.faults.Cert)
		if err != nil {
			return nil, ticketKey, err
		}
		h.cert = &c
	}
	return h.cert, h.ticketKey, nil
}
