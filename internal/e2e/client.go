package e2e

import (
	"crypto/tls"
	"fmt"
	"net/smtp"
	"net/textproto"
	"strconv"
	"strings"
)

// Send hands a message to the relay and returns its queue ID.
func (w *World) Send(from string, to ...string) string {
	w.T.Helper()
	id, err := SendMail(w.Addr, from, "Subject: test\r\n\r\nHello\r\n.dot\r\n", to...)
	if err != nil {
		w.T.Fatalf("send to %v: %v", to, err)
	}
	return id
}

// SendMail hands a message to an SMTP server and returns the queue ID in its reply.
func SendMail(addr, from, body string, to ...string) (string, error) {
	c, err := smtp.Dial(addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Mail(from); err != nil {
		return "", err
	}
	for _, r := range to {
		if err := c.Rcpt(r); err != nil {
			return "", err
		}
	}
	if _, err := c.Text.Cmd("DATA"); err != nil {
		return "", err
	}
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		return "", err
	}
	d := c.Text.DotWriter()
	if _, err := d.Write([]byte(body)); err != nil {
		return "", err
	}
	if err := d.Close(); err != nil {
		return "", err
	}
	_, msg, err := c.Text.ReadResponse(250)
	if err != nil {
		return "", err
	}
	_, id, _ := strings.Cut(msg, "queued as ")
	return id, nil
}

// Dialogue speaks SMTP with the relay. A line is the code of the reply that is
// expected, a space, and the command: "250 EHLO client.example".
func (w *World) Dialogue(lines ...string) error {
	c, err := textproto.Dial("tcp", w.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	return talk(c, lines)
}

func talk(c *textproto.Conn, lines []string) error {
	for _, l := range lines {
		want, command, _ := strings.Cut(l, " ")
		code, err := strconv.Atoi(want)
		if err != nil {
			return err
		}
		if _, err := c.Cmd("%s", command); err != nil {
			return err
		}
		if _, _, err := c.ReadResponse(code); err != nil {
			return fmt.Errorf("%.40s: %w", command, err)
		}
	}
	return nil
}

// SendRequireTLS hands a message with REQUIRETLS to the relay, over TLS.
func (w *World) SendRequireTLS(from, to, body string) error {
	c, err := smtp.Dial(w.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil { //nolint:gosec // the relay's own, made for the test
		return err
	}
	return talk(c.Text, []string{"250 MAIL FROM:<" + from + "> REQUIRETLS", "250 RCPT TO:<" + to + ">", "354 DATA", "250 " + body + "."})
}
