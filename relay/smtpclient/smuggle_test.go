package smtpclient

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// A host that offers CHUNKING and does not know BDAT takes what follows for
// commands. The content of a message must not be able to speak to it.
func TestContentIsNoCommandToAHostThatRefusesBDAT(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	senders := make(chan []string, 1)
	go func() {
		var seen []string
		defer func() { senders <- seen }()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
		say("220 mx")
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			switch verb, arg, _ := strings.Cut(strings.TrimSpace(line), " "); verb {
			case "EHLO":
				say("250-mx\r\n250-PIPELINING\r\n250 CHUNKING")
			case "MAIL":
				seen = append(seen, arg)
				say("250 ok")
			case "RCPT", "RSET":
				say("250 ok")
			case "DATA":
				say("354 go")
				for line != ".\r\n" && err == nil {
					line, err = br.ReadString('\n')
				}
				say("250 taken")
			default:
				say("502 what?")
			}
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(t.Context(), conn, Options{Name: "relay.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second goes by BDAT
		body := "Subject: x\r\n\r\nRSET\r\nMAIL FROM:<boss@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\npay at once\r\n.\r\n"
		_, err = c.Send(t.Context(), Transaction{From: "a@example.com", Recipients: []Recipient{{Address: "b@example.org"}}, Size: int64(len(body)), Body: strings.NewReader(body)})
	}
	if !c.Usable() || err != nil {
		t.Logf("the second message: %v", err)
	}
	_ = c.Close()
	if seen := <-senders; slices.ContainsFunc(seen, func(s string) bool { return strings.Contains(s, "boss@") }) {
		t.Errorf("the host has taken a message from %q", seen)
	}
}
