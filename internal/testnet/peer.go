package testnet

import (
	"bufio"
	"bytes"
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
		if r, ok := p.f.Replies["ehlo-tls"]; ok && p.tls != nil {
			return p.reply("ehlo-tls", r)
		}
		return p.reply("ehlo", p.extensions())
	case "HELO":
		p.hello = arg
		return p.reply("helo", "250 "+p.host.Name)
	case "STARTTLS":
		return p.startTLS()
	case "AUTH":
		p.host.counts.auths.Add(1)
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
		path, params := cutPath(arg)
		text := "250 2.1.5 ok"
		if r, ok := p.f.Recipients[path]; ok {
			text = r
		} else if r, ok := p.f.Replies["rcpt"]; ok {
			text = r
		}
		if strings.HasPrefix(text, "250") {
			p.mail.Recipients = append(p.mail.Recipients, path)
			p.mail.RcptParams = append(p.mail.RcptParams, params)
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
	if len(p.mail.Recipients) == 0 {
		return p.reply("bdat", "503 5.5.1 no valid recipients")
	}
	p.mail.Data = append(p.mail.Data, data...)
	if last == "" {
		return p.reply("bdat", "250 2.0.0 go on")
	}
	return p.taken(p.mail.Data, "bdat")
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
	p.mail = Message{}
	for line := range bytes.Lines(data) {
		if n := len(bytes.TrimRight(line, "\r\n")); n > maxLine && !p.f.LongLines {
			return p.reply(step, fmt.Sprintf("550 maximum allowed line length is %d octets, got %d", maxLine, n))
		}
	}
	if r := p.f.Replies[step]; r == "" || strings.HasPrefix(r, "2") {
		p.host.received(m)
	}
	return p.reply(step, "250 2.0.0 taken")
}
