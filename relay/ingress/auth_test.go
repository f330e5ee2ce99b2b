package ingress

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"io"
	"strings"
	"testing"
)

func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestAuth(t *testing.T) {
	d := newServer(t, func(o *Options) {
		o.Listeners[0].Auth = true
		o.Listeners[0].Allow = nil
	})
	c := d.hello()
	c.do("AUTH PLAIN "+plain("exchange", "secret"), "538 ")
	c.do("MAIL FROM:<a@example.com>", "530 ")
	c.startTLS()
	c.do("MAIL FROM:<a@example.com>", "550 5.7.1 ")
	c.do("AUTH PLAIN "+plain("exchange", "wrong"), "535 5.7.8 ")
	c.do("AUTH LOGIN", "334 VXNlcm5hbWU6")
	c.do(b64("exchange"), "334 UGFzc3dvcmQ6")
	c.do(b64("secret"), "235 ")
	c.do("AUTH PLAIN "+plain("exchange", "secret"), "503 ")
	c.do("MAIL FROM:<a@example.com>", "250 ")
	c.do("RCPT TO:<b@example.org>", "250 ")
	c.do("DATA", "354 ")
	c.send(headers + ".\r\n")
	c.want("250 2.0.0 queued")
	if m := d.messages(); m[0].Auth != "exchange" || !strings.Contains(d.contents()[0], " with ESMTPSA id ") {
		t.Errorf("%+v", m[0])
	}

	c = d.hello()
	c.startTLS()
	c.do("AUTH LOGIN "+b64("exchange"), "334 UGFzc3dvcmQ6")
	c.do("*", "501 ")
	for range maxAuthAttempts {
		c.do("AUTH PLAIN "+plain("nobody", "secret"), "535 5.7.8 ")
	}
	c.want("421 4.7.0 ")
	c.want("EOF")

	c = d.hello()
	c.startTLS()
	c.do("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("boss\x00exchange\x00secret")), "535 ")
}

func TestClearTextBehindSTARTTLSIsThrownAway(t *testing.T) {
	d := newServer(t, nil)
	c := d.hello()
	c.do("MAIL FROM:<a@example.com>", "250 ") // forgotten as well
	c.send("STARTTLS\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\n")
	c.want("220 ")
	tc := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.conn, c.br = tc, bufio.NewReader(tc)
	c.do("RCPT TO:<b@example.org>", "503 ")
	c.do("STARTTLS", "503 ")
	c.do("EHLO x", "250 ")
	c.do("MAIL FROM:<good@example.com>", "250 ")
}

func TestAHandshakeThatFailsEndsTheSession(t *testing.T) {
	d := newServer(t, nil)
	c := d.hello()
	c.do("STARTTLS", "220 ")
	c.send("MAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\n")
	rest, _ := io.ReadAll(c.br)
	if strings.Contains(string(rest), "250") {
		t.Errorf("commands were answered: %q", rest)
	}
}
