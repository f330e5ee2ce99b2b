package ingress

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
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
	c.do("AUTH PLAIN =", "501 5.5.2 ")
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

// What a client sends of its password where no response is expected is in neither log nor
// metrics, and is not quoted.
func TestAPasswordInTheWrongPlaceIsNotLogged(t *testing.T) {
	response := plain("exchange", "correct-horse-battery")
	for _, tt := range []struct{ name, lines string }{
		{"a response in several lines", "AUTH PLAIN " + response[:24] + "\r\n" + response[24:] + "\r\n"},
		{"AUTH LOGIN that is refused", "AUTH LOGIN not-base64\r\n" + b64("correct-horse-battery") + "\r\n"},
		{"a short password", "AUTH LOGIN not-base64\r\n" + b64("abc") + "\r\n"},
		{"two words", "AUTH CRAM-MD5\r\n" + b64("abc") + " " + b64("correct-horse") + "\r\n"},
	} {
		for _, secure := range []bool{true, false} {
			var log logged
			var mu sync.Mutex
			told := ""
			d := newServer(t, func(o *Options) {
				o.Listeners[0].Auth = true
				o.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				o.Refused = func(r *Refusal) { mu.Lock(); defer mu.Unlock(); told += fmt.Sprintf("%+v\n", r) }
			})
			c := d.hello()
			if secure {
				c.startTLS()
			}
			c.send(tt.lines + "VRFY x\r\n")
			heard, last := "", ""
			for !strings.HasPrefix(last, "252 ") && last != "EOF" {
				last = c.reply()
				heard += last + "\n"
			}
			_, secret, _ := strings.Cut(tt.lines, "\r\n")
			secret = strings.ToUpper(secret[:4])
			mu.Lock()
			if all := strings.ToUpper(log.String() + told + heard); strings.Contains(all, secret) || !strings.Contains(all, `"UNKNOWN"`) {
				t.Errorf("%s, TLS %t: %s is in\n%s%s%s", tt.name, secure, secret, log.String(), told, heard)
			}
			mu.Unlock()
		}
	}
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
