package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// scripted is a connection on which a client says one line after the other, each
// when it is read, and on which everything that happens is written down.
type scripted struct {
	net.Conn
	in     []string
	end    error // of the read behind the last line
	events []string
	closed chan struct{}
}

func (s *scripted) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, s.end
	}
	n := copy(p, s.in[0]+"\r\n")
	s.events = append(s.events, "-> "+s.in[0])
	s.in = s.in[1:]
	return n, nil
}

func (s *scripted) Write(p []byte) (int, error) {
	s.events = append(s.events, "<- "+strings.TrimSuffix(string(p), "\r\n"))
	return len(p), nil
}

func (s *scripted) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func (s *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }

// one is a listener with one connection.
type one struct{ conns chan net.Conn }

func (o one) Accept() (net.Conn, error) {
	if c, ok := <-o.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (o one) Close() error   { return nil }
func (o one) Addr() net.Addr { return &net.TCPAddr{} }

// recorder is a session that writes down how it is called. Parts of the sender's
// address and of the message say what it does.
type recorder struct {
	conn *scripted
	smtp *smtp.Conn
}

func (r *recorder) note(format string, args ...any) {
	r.conn.events = append(r.conn.events, fmt.Sprintf(format, args...))
}

func (r *recorder) Mail(from string, _ *smtp.MailOptions) error {
	r.note("Mail")
	switch {
	case strings.HasPrefix(from, "panic"):
		panic("a fault")
	case strings.HasPrefix(from, "421"):
		return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "goodbye"}
	}
	return nil
}

func (r *recorder) Rcpt(string, *smtp.RcptOptions) error { r.note("Rcpt"); return nil }

func (r *recorder) Data(in io.Reader) error {
	r.note("Data")
	first := make([]byte, 1)
	if _, err := io.ReadFull(in, first); err != nil {
		return err
	}
	if first[0] == '4' {
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "full"}
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "queued"}
}

func (r *recorder) Reset()                   { r.note("Reset %s", r.smtp.Hostname()) }
func (r *recorder) Logout() error            { return nil }
func (r *recorder) AuthMechanisms() []string { return []string{sasl.Plain} }
func (r *recorder) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, _, _ string) error { return nil }), nil
}

// What gosmtp.go says of go-smtp is so in the version that go.mod names.
func TestGoSMTPDoesWhatTheRelayReliesOn(t *testing.T) {
	const greeting, hello = "<- 220 mx.example ESMTP Service Ready", "-> HELO a|NewSession|<- 250 2.0.0 Hello a|"
	const mail = "-> MAIL FROM:<a@b>|Mail|<- 250 2.0.0 Roger, accepting mail from <a@b>|"
	const rcpt = "-> RCPT TO:<c@d>|Rcpt|<- 250 2.0.0 I'll make sure <c@d> gets this|"
	const dataGo = "-> DATA|<- 354 Go ahead. End your data with <CR><LF>.<CR><LF>|Data|"
	broken := errors.New("broken")
	for _, tt := range []struct {
		relies string
		end    error
		want   string // events behind the greeting
	}{
		{"the relay offers EHLO's lines anew, by their text and order", io.EOF,
			"-> EHLO a|NewSession|<- 250-Hello a|<- 250-PIPELINING|<- 250-8BITMIME|<- 250-ENHANCEDSTATUSCODES|<- 250-CHUNKING|<- 250-AUTH PLAIN|<- 250-SMTPUTF8|<- 250-DSN|<- 250 SIZE"},
		{"a second EHLO and RSET reset the one session, with the new name", io.EOF,
			hello + "-> HELO b|Reset b|<- 250 2.0.0 Hello b|-> RSET|Reset b|<- 250 2.0.0 Session reset"},
		{"commands without their predecessors are refused, and cost nothing", io.EOF,
			"-> MAIL FROM:<a@b>|<- 502 5.5.1 Please introduce yourself first.|" + hello + "-> RCPT TO:<c@d>|<- 502 5.5.1 Missing MAIL FROM command.|-> DATA|<- 502 5.5.1 Missing RCPT TO command.|" +
				mail + "-> DATA|<- 502 5.5.1 Missing RCPT TO command."},
		{"a message: 354 stands before Session.Data, and its own reply behind it", io.EOF,
			hello + mail + rcpt + dataGo + "-> x|-> .|<- 250 2.0.0 queued|Reset a|-> NOOP|<- 250 2.0.0 I have successfully done nothing"},
		{"a Data that returns early: the content is read up to its end before the reply", io.EOF,

			hello + mail + rcpt + dataGo + "-> 4|-> QUIT|-> .|<- 452 4.3.1 full|Reset a|-> NOOP|<- 250 2.0.0 I have successfully done nothing"},
		{"io.EOF inside a message: there is an answer, which conn drops behind a goodbye", io.EOF,
			hello + mail + rcpt + dataGo + "-> x|<- 554 5.0.0 Error: transaction failed: unexpected EOF|Reset a"},
		{"io.EOF ends a session without a word", io.EOF, hello + mail[:len(mail)-1]},
		{"a time-out is answered with 421", os.ErrDeadlineExceeded, hello + "<- 421 4.4.2 Idle timeout, bye bye"},
		{"another error is answered with 421", broken, hello + "<- 421 4.4.0 Connection error, sorry"},
		{"a 421 of a session ends nothing: conn does", io.EOF,
			hello + "-> MAIL FROM:<421@b>|Mail|<- 421 4.7.0 goodbye|-> NOOP|<- 250 2.0.0 I have successfully done nothing"},
		{"a panic ends the session with 421", io.EOF, hello + "-> MAIL FROM:<panic@b>|Mail|<- 421 4.0.0 Internal server error|LOG"},
		{"verbs have four letters and a blank behind them", io.EOF,
			hello + "-> QUITX|<- 501 5.5.2 Bad command|-> QUIT\tX|<- 501 5.5.2 Bad command|-> starttlsX|<- 502 5.5.1 TLS not supported|-> quit|<- 221 2.0.0 Bye"},
		{"the fourth line that is no command ends the session", io.EOF,
			"-> HULA|<- 500 5.5.2 Syntax errors, HULA command unrecognized|-> X|<- 501 5.5.2 Bad command|-> |<- 500 5.5.2 Error: bad syntax|" +
				"-> HULA|<- 500 5.5.2 Syntax errors, HULA command unrecognized|<- 500 5.5.1 Too many errors. Quiting now"},
		{"commands that are known and not implemented cost nothing", io.EOF,
			strings.TrimSuffix(strings.Repeat("-> HELP|<- 502 5.5.1 HELP command not implemented|", 5), "|")},
		{"AUTH: its mistakes, its second line, and that it is taken once", io.EOF,
			hello + "-> AUTH|<- 502 5.5.4 Missing parameter|-> AUTH PLAIN x|<- 454 4.7.0 Invalid base64 data|-> AUTH PLAIN =|<- 454 4.7.0 sasl: invalid response|-> AUTH PLAIN|<- 334 |-> *|<- 501 5.0.0 Negotiation cancelled|" +
				"-> AUTH PLAIN|<- 334 |-> AGEAYg==|<- 235 2.0.0 Authentication succeeded|-> AUTH PLAIN|<- 503 5.5.1 Already authenticated|-> RSET|Reset a|<- 250 2.0.0 Session reset|-> AUTH PLAIN|<- 503 5.5.1 Already authenticated"},
	} {
		t.Run(tt.relies, func(t *testing.T) {
			want := strings.Split(greeting+"|"+tt.want, "|")
			got := playGoSMTP(t, want, tt.end)
			if !slices.Equal(got, want) {
				t.Errorf("go-smtp behaves otherwise than %s, on which the relay relies (gosmtp.go): put conn right for it, then this test\ngot  %q\nwant %q", triedVersion, got, want)
			}
		})
	}
}

// playGoSMTP lets go-smtp, as newSMTP sets it up, read the lines among events,
// and returns what happened.
func playGoSMTP(t *testing.T, events []string, end error) []string {
	t.Helper()
	c := &scripted{end: end, closed: make(chan struct{})}
	for _, e := range events {
		if line, ok := strings.CutPrefix(e, "-> "); ok {
			c.in = append(c.in, line)
		}
	}
	s := (&listener{server: &Server{}}).newSMTP(&Options{Hostname: "mx.example"})
	s.ErrorLog = logTo{c}
	s.Backend = smtp.BackendFunc(func(sc *smtp.Conn) (smtp.Session, error) {
		c.events = append(c.events, "NewSession")
		return &recorder{conn: c, smtp: sc}, nil
	})
	l := one{make(chan net.Conn, 1)}
	l.conns <- c
	close(l.conns)
	_ = s.Serve(l)
	_ = s.Shutdown(context.Background()) // waits for the session
	select {
	case <-c.closed:
	default:
		t.Error("the connection stays open")
	}
	return c.events
}

// logTo writes down that a panic was logged.
type logTo struct{ c *scripted }

func (l logTo) Printf(format string, _ ...any) {
	if strings.HasPrefix(format, "panic") {
		l.c.events = append(l.c.events, "LOG")
	}
}
func (l logTo) Println(...any) {}

// Every text that replies puts right is one of go-smtp's, tried above.
func TestTheTextsOfGoSMTPAreTried(t *testing.T) {
	source, err := os.ReadFile("gosmtp_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range replies {
		if !strings.Contains(string(source), strings.TrimSpace(r.theirs)) {
			t.Errorf("%q is not in TestGoSMTPDoesWhatTheRelayReliesOn", r.theirs)
		}
	}
}

// The version in go.mod is the one with which gosmtp.go was tried.
func TestTheVersionOfGoSMTPIsTheTriedOne(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`github\.com/emersion/go-smtp (\S+)`).FindSubmatch(mod)
	if found == nil || string(found[1]) != triedVersion {
		t.Errorf("go.mod has go-smtp %s, gosmtp.go was tried with %s: when the other tests pass, read its changes and set triedVersion", found[1:], triedVersion)
	}
}
