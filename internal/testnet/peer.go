package testnet

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// peer is one session as the host sees it.
type peer struct {
	host  *Host
	conn  net.Conn
	br    *bufio.Reader
	f     Faults
	tls   *tls.ConnectionState
	hello string
	n     int64
	user  string

	mail     Message
	open     bool // a transaction is open
	failed   bool // a chunk of it was refused: only RSET helps (RFC 3030, 2)
	messages int
}

func (h *Host) serve(c net.Conn, full bool) {
	h.mu.Lock()
	f := h.faults
	h.mu.Unlock()
	if f.Latency > 0 {
		far := newFar(c, f.Latency)
		defer far.stop()
		c = far
	}
	p := &peer{host: h, conn: c, br: bufio.NewReaderSize(c, 64<<10), f: f, n: h.counts.connections.Add(1)}
	greeting := "220 " + h.Name + " ESMTP testnet"
	if full {
		greeting = "421 4.7.0 too many sessions"
	}
	if !p.reply("greeting", greeting) {
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
	return p.ready(step) && p.write(p.says(step, text))
}

// ready reports whether the host comes to the reply to a step.
func (p *peer) ready(step string) bool {
	if p.f.Hang == step {
		p.hang()
		return false
	}
	return p.f.Drop != step && (p.f.Delay == 0 || p.pause())
}

// hang says nothing more until the host ends.
func (p *peer) hang() {
	p.host.counts.hung.Add(1)
	<-p.host.done
}

// write writes a reply. It reports whether the session goes on.
func (p *peer) write(text string) bool {
	if _, err := p.conn.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n")); err != nil {
		return false
	}
	return !strings.HasPrefix(text, "421")
}

// pause is the time that the host takes for a reply. It reports whether the
// session goes on.
func (p *peer) pause() bool {
	select {
	case <-time.After(p.f.Delay):
		return true
	case <-p.host.done:
		return false
	}
}

// says is the reply to a step: text, or what the faults put in its place.
func (p *peer) says(step, text string) string {
	if r, ok := p.f.Replies[step]; ok {
		return r
	}
	return text
}

// reset gives the transaction up.
func (p *peer) reset() { p.mail, p.open, p.failed = Message{}, false, false }

func (p *peer) command(line string) bool {
	if p.host.isMended() {
		p.f.Replies, p.f.Recipients = nil, nil
	}
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		p.hello = arg
		p.reset()
		if r, ok := p.f.Replies["ehlo-tls"]; ok && p.tls != nil {
			return p.reply("ehlo-tls", r)
		}
		return p.reply("ehlo", p.extensions())
	case "HELO":
		p.hello = arg
		p.reset()
		return p.reply("helo", "250 "+p.host.Name)
	case "STARTTLS":
		return p.startTLS()
	case "AUTH":
		return p.auth(arg)
	case "MAIL":
		return p.from(arg)
	case "RCPT":
		return p.to(arg)
	case "DATA":
		if len(p.mail.Recipients) == 0 {
			return p.reply("nobody", "554 5.5.1 no valid recipients")
		}
		if !p.reply("data", "354 go ahead") {
			return false
		}
		if !strings.HasPrefix(p.says("data", "3"), "3") {
			return true // the transaction stays open
		}
		return p.data()
	case "BDAT":
		return p.chunk(arg)
	case "RSET":
		p.reset()
		return p.reply("rset", "250 2.0.0 ok")
	case "NOOP":
		return p.reply("noop", "250 2.0.0 ok")
	case "QUIT":
		p.reply("quit", "221 2.0.0 bye")
		return false
	}
	return p.reply("unknown", "502 5.5.1 what?")
}

// from begins a transaction. A MAIL within one is refused and leaves it open (RFC
// 5321, 4.1.4), so that the RCPT and BDAT behind it belong to that one, as with
// Postfix and Exim.
func (p *peer) from(arg string) bool {
	if p.f.Login != "" && p.user == "" {
		return p.reply("mail", "530 5.7.0 log in first")
	}
	if p.open {
		p.host.breach("MAIL " + arg + " within the transaction of <" + p.mail.From + ">")
		return p.reply("nested", "503 5.5.1 nested MAIL command")
	}
	if p.f.SessionMessages > 0 && p.messages >= p.f.SessionMessages {
		if p.f.Enough != "" {
			return p.reply("enough", p.f.Enough)
		}
		return p.reply("enough", "421 4.7.0 enough for this session")
	}
	p.host.counts.mails.Add(1)
	if p.tls == nil {
		p.host.counts.mailsInClear.Add(1)
	}
	if strings.HasPrefix(p.says("mail", "250"), "2") {
		path, params := cutPath(arg)
		p.mail, p.open = Message{From: path, Params: params}, true
	}
	return p.reply("mail", "250 2.1.0 ok")
}

func (p *peer) to(arg string) bool {
	path, params := cutPath(arg)
	text := p.says("rcpt", "250 2.1.5 ok")
	if r, ok := p.f.Recipients[path]; ok {
		text = r
	}
	if p.open && p.host.greylists(path) {
		text = "450 4.2.0 greylisted, come back later"
	}
	switch n := p.f.TransactionRecipients; {
	case !p.open:
		text = "503 5.5.1 need MAIL first"
	case !strings.HasPrefix(text, "250"):
	case n > 0 && len(p.mail.Recipients) == n:
		if text = p.f.TooMany; text == "" {
			text = "452 4.5.3 too many recipients"
		}
	default:
		p.mail.Recipients = append(p.mail.Recipients, path)
		p.mail.RcptParams = append(p.mail.RcptParams, params)
	}
	return p.reply("rcpt "+path, text) && !p.at("rcpt")
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
		p.hang()
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
	cert, ticketKey, err := p.host.certificate()
	if err != nil {
		return false
	}
	c := &tls.Config{Certificates: []tls.Certificate{*cert}}
	c.SetSessionTicketKeys([][32]byte{ticketKey}) // good for the next connection too
	var sni string
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { sni = h.ServerName; return nil, nil }
	if p.f.TLS11 {
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	}
	if p.f.TLS12 {
		c.MaxVersion = tls.VersionTLS12
	}
	if c.CipherSuites = p.f.Suites; c.CipherSuites != nil && c.MaxVersion == 0 {
		c.MaxVersion = tls.VersionTLS12
	}
	t := tls.Server(&helloConn{Conn: p.conn, fault: p.f.Hello}, c)
	if t.Handshake() != nil {
		return false
	}
	p.host.counts.handshakes.Add(1)
	state := t.ConnectionState()
	if state.DidResume {
		p.host.counts.resumed.Add(1)
	}
	state.ServerName = sni
	p.conn, p.tls, p.hello = t, &state, ""
	p.reset()
	p.br.Reset(t)
	return true
}

// chunk reads a chunk (RFC 3030).
func (p *peer) chunk(arg string) bool {
	var size int
	var last string
	if n, _ := fmt.Sscanf(arg, "%d %s", &size, &last); n < 1 || size > 100<<20 {
		return p.reply("bdat", "501 5.5.4 BDAT size [LAST]")
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(p.br, data); err != nil {
		return false
	}
	if len(p.mail.Recipients) == 0 || p.failed {
		return p.reply("nobody", "503 5.5.1 no valid recipients, or a chunk was refused")
	}
	if p.failed = !strings.HasPrefix(p.says("bdat", "250"), "2"); p.failed {
		return p.reply("bdat", "")
	}
	p.mail.Data = append(p.mail.Data, data...)
	if last == "" {
		return p.reply("bdat", "250 2.0.0 go on")
	}
	return p.taken(p.mail.Data, "bdat")
}

// data reads to the final dot.
func (p *peer) data() bool {
	if p.f.Hang == "body" {
		_, _ = p.br.Peek(1) // the content is on its way
	}
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
		if data = append(data, line...); p.f.ContentOctets > 0 && len(data) > p.f.ContentOctets {
			p.write(cmp.Or(p.f.TooLong, "552 5.3.4 too long"))
			return false
		}
	}
	return p.taken(data, "dot")
}

// maxLine is the most octets of a line that Exim's hosts take (RFC 5321,
// 4.5.3.1.6), without its end.
const maxLine = 998

// taken is the end of a message.
func (p *peer) taken(data []byte, step string) bool {
	m := p.mail
	p.messages++
	m.Data, m.To, m.Hello, m.Session, m.User = data, strings.Join(m.Recipients, ","), p.hello, p.n, p.user
	if p.tls != nil {
		m.TLS, m.TLSVersion, m.SNI, m.Suite, m.Group = true, p.tls.Version, p.tls.ServerName, p.tls.CipherSuite, p.tls.CurveID
	}
	p.reset()
	text := p.says(step, "250 2.0.0 taken")
	for line := range bytes.Lines(data) {
		if n := len(bytes.TrimRight(line, "\r\n")); n > maxLine && !p.f.LongLines {
			text = fmt.Sprintf("550 maximum allowed line length is %d octets, got %d", maxLine, n)
		}
	}
	if strings.HasPrefix(text, "2") {
		p.host.received(m)
	}
	if !p.ready(step) || step == "bdat" && p.at("dot") {
		return false
	}
	for range p.behind() {
		text += "\n503 5.5.1 pipelined after end of data"
	}
	return p.write(text)
}

// peekTime is how long a host looks for what was written behind the end of a
// message: what came with it is there already.
const peekTime = 200 * time.Microsecond

// behind discards the octets that were written behind the end of a message before that
// was answered: where the two sides differ about the end of the message, a stranger wrote
// them. It returns the number of lines that are answered.
func (p *peer) behind() (lines int) {
	if p.br.Buffered() == 0 && !p.host.discards() {
		_ = p.conn.SetReadDeadline(time.Now().Add(peekTime))
		_, _ = p.br.Peek(1) // an error comes again with the next read
		_ = p.conn.SetReadDeadline(time.Time{})
	}
	early, _ := p.br.Peek(p.br.Buffered())
	if len(early) == 0 {
		return 0
	}
	p.host.breach("behind the end of a message: " + string(early[:min(len(early), 60)]))
	lines = bytes.Count(early, []byte("\n"))
	_, _ = p.br.Discard(len(early))
	if p.f.DropBehindEnd {
		return 0
	}
	return lines
}
