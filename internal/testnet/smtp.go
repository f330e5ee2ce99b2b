package testnet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
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
	// TLS11 speaks TLS 1.1 at most.
	TLS11 bool
	// Down refuses connections.
	Down bool
	// Replies replaces the reply to a step: "greeting", "ehlo", "mail", "rcpt",
	// "data", "dot", "bdat". A 421 closes the connection behind it.
	Replies map[string]string
	// Recipients replaces the reply to RCPT for an address.
	Recipients map[string]string
	// Hang says nothing from a step on, Drop closes there: the steps above, and
	// "starttls", "handshake", "body".
	Hang, Drop string
	// Delay comes before every reply, one after the other: a slow host. Latency
	// is how long what the host writes is on its way: a far one.
	Delay, Latency time.Duration
	// SessionMessages is how many messages a session may carry; the next MAIL is
	// answered with 421.
	SessionMessages int
	// Without leaves extensions out, "PIPELINING"; With adds them, "REQUIRETLS",
	// "CHUNKING".
	Without, With []string
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
	Data       []byte // without dot-stuffing
	TLS        bool
	TLSVersion uint16
	SNI        string
	Hello      string // of the last EHLO or HELO
	Session    int64
	User       string // who had logged in
}

// Counts are a host's totals.
type Counts struct {
	Connections, Handshakes, Mails, MailsInClear, Messages int64
}

// Host is an SMTP host.
type Host struct {
	Name string
	IP   string

	net      *Net
	listener net.Listener
	counts   struct{ connections, handshakes, mails, mailsInClear, messages atomic.Int64 }

	mu       sync.Mutex
	faults   Faults
	also     []string // other addresses that lead here, "IP:port"
	cert     *tls.Certificate
	discard  bool
	messages []Message
	changed  chan struct{}
	conns    map[net.Conn]bool
	closed   bool
	done     chan struct{}
}

// AddHost starts an SMTP host with an address record.
func (n *Net) AddHost(name string) (*Host, error) {
	h := &Host{Name: name, IP: n.address(), net: n, changed: make(chan struct{}), conns: make(map[net.Conn]bool), done: make(chan struct{})}
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
				h.net.wg.Go(func() {
					h.serve(c)
					h.track(c, false)
				})
			}
		}
	})
	return nil
}

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
	c, err := h.certificate()
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

// Set replaces the faults; it counts from the next connection on.
func (h *Host) Set(f Faults) error {
	h.mu.Lock()
	down := h.faults.Down
	h.faults, h.cert = f, nil
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

// Discard lets the host count messages and not keep them, for load.
func (h *Host) Discard() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.discard = true
}

// Counts are the totals so far.
func (h *Host) Counts() Counts {
	return Counts{h.counts.connections.Load(), h.counts.handshakes.Load(), h.counts.mails.Load(), h.counts.mailsInClear.Load(), h.counts.messages.Load()}
}

// Messages are those received so far.
func (h *Host) Messages() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.messages)
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
		h.messages = append(h.messages, m)
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// certificate is issued once and kept until the faults change.
func (h *Host) certificate() (*tls.Certificate, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cert == nil {
		c, err := h.net.CA.Issue(h.Name, h.faults.Cert)
		if err != nil {
			return nil, err
		}
		h.cert = &c
	}
	return h.cert, nil
}

// peer is one session as the host sees it.
type peer struct {
	host  *Host
	conn  net.Conn
	br    *bufio.Reader
	f     Faults
	tls   *tls.ConnectionState
	hello string
	n     int64
	mail  Message
	user  string

	messages int
}

func (h *Host) serve(c net.Conn) {
	h.mu.Lock()
	f := h.faults
	h.mu.Unlock()
	if f.Latency > 0 {
		far := newFar(c, f.Latency)
		defer far.stop()
		c = far
	}
	p := &peer{host: h, conn: c, br: bufio.NewReaderSize(c, 64<<10), f: f, n: h.counts.connections.Add(1)}
	if !p.reply("greeting", "220 "+h.Name+" ESMTP testnet") {
		return
	}
	for {
		line, err := p.br.ReadString('\n')
		if err != nil || !p.command(strings.TrimRight(line, "\r\n")) {
			return
		}
	}
}

// reply answers a step, or does what the faults say. It reports whether the
// session goes on.
func (p *peer) reply(step, text string) bool {
	if p.f.Hang == step {
		<-p.host.done
		return false
	}
	if p.f.Drop == step {
		return false
	}
	if p.f.Delay > 0 {
		select {
		case <-time.After(p.f.Delay):
		case <-p.host.done:
			return false
		}
	}
	if r, ok := p.f.Replies[step]; ok {
		text = r
	}
	if _, err := p.conn.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n")); err != nil {
		return false
	}
	return !strings.HasPrefix(text, "421")
}

func (p *peer) command(line string) bool {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		p.hello = arg
		return p.reply("ehlo", p.extensions())
	case "HELO":
		p.hello = arg
		return p.reply("helo", "250 "+p.host.Name)
	case "STARTTLS":
		return p.startTLS()
	case "AUTH":
		return p.auth(arg)
	case "MAIL":
		if p.f.Login != "" && p.user == "" {
			return p.reply("mail", "530 5.7.0 log in first")
		}
		if p.f.SessionMessages > 0 && p.messages == p.f.SessionMessages {
			p.reply("enough", "421 4.7.0 enough for this session")
			return false
		}
		p.host.counts.mails.Add(1)
		if p.tls == nil {
			p.host.counts.mailsInClear.Add(1)
		}
		path, params := cutPath(arg)
		p.mail = Message{From: path, Params: params}
		return p.reply("mail", "250 2.1.0 ok")
	case "RCPT":
		path, _ := cutPath(arg)
		text := "250 2.1.5 ok"
		if r, ok := p.f.Recipients[path]; ok {
			text = r
		} else if r, ok := p.f.Replies["rcpt"]; ok {
			text = r
		}
		if strings.HasPrefix(text, "250") {
			p.mail.Recipients = append(p.mail.Recipients, path)
		}
		return p.reply("rcpt "+path, text) && !p.at("rcpt")
	case "DATA":
		if len(p.mail.Recipients) == 0 {
			return p.reply("nobody", "554 5.5.1 no valid recipients")
		}
		if !p.reply("data", "354 go ahead") {
			return false
		}
		if strings.HasPrefix(p.f.Replies["data"], "4") || strings.HasPrefix(p.f.Replies["data"], "5") {
			return true
		}
		return p.data()
	case "BDAT":
		return p.chunk(arg)
	case "RSET":
		p.mail = Message{}
		return p.reply("rset", "250 2.0.0 ok")
	case "NOOP":
		return p.reply("noop", "250 2.0.0 ok")
	case "QUIT":
		p.reply("quit", "221 2.0.0 bye")
		return false
	}
	return p.reply("unknown", "502 5.5.1 what?")
}

// auth takes the password in one step (PLAIN) or in two (LOGIN).
func (p *peer) auth(arg string) bool {
	mechanism, initial, _ := strings.Cut(arg, " ")
	given, _ := base64.StdEncoding.DecodeString(initial)
	switch {
	case p.f.Login == "" || p.tls == nil || mechanism != p.f.AuthMechanism:
		return p.reply("auth", "504 5.5.4 no")
	case mechanism == "PLAIN":
		given = bytes.TrimPrefix(given, []byte{0})
		given = bytes.Replace(given, []byte{0}, []byte(":"), 1)
	default:
		if !p.reply("auth", "334 UGFzc3dvcmQ6") {
			return false
		}
		line, err := p.br.ReadString('\n')
		if err != nil {
			return false
		}
		password, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		given = append(append(given, ':'), password...)
	}
	if string(given) != p.f.Login {
		return p.reply("auth", "535 5.7.8 wrong user or password")
	}
	p.user, _, _ = strings.Cut(p.f.Login, ":")
	return p.reply("auth", "235 2.7.0 welcome")
}

// at hangs or drops at a step that has several replies.
func (p *peer) at(step string) bool {
	if p.f.Hang == step {
		<-p.host.done
	}
	return p.f.Hang == step || p.f.Drop == step
}

func cutPath(arg string) (path, params string) {
	_, arg, _ = strings.Cut(arg, "<")
	i := strings.LastIndex(arg, ">")
	if i < 0 {
		return arg, ""
	}
	return arg[:i], strings.TrimSpace(arg[i+1:])
}

func (p *peer) extensions() string {
	ext := []string{"PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}
	if p.tls == nil && !p.f.NoStartTLS {
		ext = append(ext, "STARTTLS")
	}
	ext = slices.DeleteFunc(ext, func(e string) bool {
		word, _, _ := strings.Cut(e, " ")
		return slices.Contains(p.f.Without, word)
	})
	ext = append(ext, p.f.With...)
	if p.f.Login != "" && p.tls != nil {
		ext = append(ext, "AUTH "+p.f.AuthMechanism)
	}
	if p.f.LowerCase {
		for i := range ext {
			ext[i] = strings.ToLower(ext[i])
		}
	}
	lines := append([]string{p.host.Name + " hello"}, ext...)
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = "250" + sep + lines[i]
	}
	return strings.Join(lines, "\n")
}

func (p *peer) startTLS() bool {
	if p.f.StartTLSReply != "" {
		return p.reply("starttls", p.f.StartTLSReply)
	}
	text := "220 2.0.0 go"
	if p.f.InjectAfter220 {
		text += "\n250 2.0.0 injected"
	}
	if !p.reply("starttls", text) {
		return false
	}
	if p.f.GarbageAfter220 {
		_, _ = p.conn.Write([]byte("this is not TLS\r\n"))
		return false
	}
	if p.at("handshake") {
		return false
	}
	cert, err := p.host.certificate()
	if err != nil {
		return false
	}
	c := &tls.Config{Certificates: []tls.Certificate{*cert}}
	var sni string
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { sni = h.ServerName; return nil, nil }
	if p.f.TLS11 {
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	}
	t := tls.Server(p.conn, c)
	if t.Handshake() != nil {
		return false
	}
	p.host.counts.handshakes.Add(1)
	state := t.ConnectionState()
	state.ServerName = sni
	p.conn, p.tls, p.hello = t, &state, ""
	p.br.Reset(t)
	return true
}

// chunk reads a chunk (RFC 3030), the whole message only.
func (p *peer) chunk(arg string) bool {
	var size int
	var last string
	if n, _ := fmt.Sscanf(arg, "%d %s", &size, &last); n < 2 || size > 100<<20 {
		return p.reply("bdat", "501 5.5.4 BDAT size LAST")
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(p.br, data); err != nil {
		return false
	}
	if len(p.mail.Recipients) == 0 {
		return p.reply("bdat", "503 5.5.1 no valid recipients")
	}
	return p.taken(data, "bdat")
}

// data reads to the final dot.
func (p *peer) data() bool {
	if p.at("body") {
		return false
	}
	var data []byte
	for {
		line, err := p.br.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return false
		}
		if string(line) == ".\r\n" && (len(data) == 0 || data[len(data)-1] == '\n') {
			break
		}
		if line[0] == '.' && (len(data) == 0 || data[len(data)-1] == '\n') {
			line = line[1:]
		}
		data = append(data, line...)
	}
	return p.taken(data, "dot")
}

// taken is the end of a message.
func (p *peer) taken(data []byte, step string) bool {
	m := p.mail
	p.messages++
	m.Data, m.To, m.Hello, m.Session, m.User = data, strings.Join(m.Recipients, ","), p.hello, p.n, p.user
	if p.tls != nil {
		m.TLS, m.TLSVersion, m.SNI = true, p.tls.Version, p.tls.ServerName
	}
	p.mail = Message{}
	if r := p.f.Replies[step]; r == "" || strings.HasPrefix(r, "2") {
		p.host.received(m)
	}
	return p.reply(step, "250 2.0.0 taken")
}
