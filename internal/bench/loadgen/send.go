//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

func (l *load) send(ctx context.Context) error {
	switch l.client {
	case "builtin":
		return l.sendBuiltin(ctx)
	case "smtp-source":
		return l.sendCommand(ctx, l.sessions*l.messages, "smtp-source", "-s", strconv.Itoa(l.sessions), "-m", strconv.Itoa(l.sessions*l.messages),
			"-l", strconv.Itoa(l.size), "-f", "anna@sender.example", "-t", "kurt@"+domainName(0), l.addr)
	case "swaks":
		host, port, _ := net.SplitHostPort(l.addr)
		return l.sendCommand(ctx, 1, "swaks", "--server", host, "--port", port, "--tls", "--from", "anna@sender.example", "--to", "kurt@"+domainName(0))
	}
	return fmt.Errorf("there is no client %q", l.client)
}

// sendCommand lets another program send, which fails if a message is refused.
func (l *load) sendCommand(ctx context.Context, n int, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	l.anonymous.Add(int64(n))
	return nil
}

func (l *load) sendBuiltin(ctx context.Context) error {
	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", l.size/78+1)[:l.size]
	var wg sync.WaitGroup
	for s := range l.sessions {
		wg.Go(func() {
			for n := 0; l.more(n) && ctx.Err() == nil; {
				n += l.session(s, n, body)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// more says whether message n of a session is to be sent: those that are wanted,
// or what comes until all kills were made.
func (l *load) more(n int) bool {
	if l.kills > 0 {
		return !l.stop.Load()
	}
	return n < l.messages
}

// session sends from message n on until something breaks, and returns how many
// messages were acknowledged.
func (l *load) session(s, n int, body string) (done int) {
	c, err := dial(l.addr)
	if err != nil {
		l.refused.Add(1)
		time.Sleep(20 * time.Millisecond) // it is being started
		return 0
	}
	defer c.Close()
	for ; l.more(n + done); done++ {
		id, err := l.transaction(c, domainName((s+n+done)%l.domains), body)
		if err != nil {
			l.refused.Add(1)
			time.Sleep(20 * time.Millisecond)
			return done
		}
		if l.relay == "postfix" { // its IDs come again
			l.anonymous.Add(1)
			continue
		}
		l.mu.Lock()
		l.accepted[id] = time.Now()
		l.mu.Unlock()
		if l.kills > 0 {
			time.Sleep(20 * time.Millisecond) // deliveries keep up
		}
	}
	_ = c.Quit()
	return done
}

// dial opens a session that writes a message at once, as far as TCP takes it.
func dial(addr string) (*smtp.Client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c, err := smtp.NewClient(conn, "relay.load.example")
	if err != nil {
		return nil, err
	}
	c.Text.W = bufio.NewWriterSize(conn, 64<<10)
	if err := c.Hello("load.example"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// transaction sends one message. The envelope goes in one packet (RFC 2920), as
// mail servers send it, or a command at a time.
func (l *load) transaction(c *smtp.Client, domain, body string) (id string, err error) {
	replies := 0 // that are still to come
	for _, command := range []struct {
		text string
		code int
	}{{"MAIL FROM:<anna@sender.example>", 250}, {"RCPT TO:<kurt@" + domain + ">", 250}, {"DATA", 354}} {
		if _, err := io.WriteString(c.Text.W, command.text+"\r\n"); err != nil {
			return "", err
		}
		if replies++; !l.lockstep && command.code != 354 {
			continue
		}
		if err := c.Text.W.Flush(); err != nil {
			return "", err
		}
		for ; replies > 0; replies-- {
			code := 250
			if replies == 1 {
				code = command.code
			}
			if _, _, err := c.Text.ReadResponse(code); err != nil {
				return "", err
			}
		}
	}
	if _, err := io.WriteString(c.Text.W, "Subject: load\r\n\r\n"+body+"\r\n.\r\n"); err != nil {
		return "", err
	}
	if err := c.Text.W.Flush(); err != nil {
		return "", err
	}
	_, msg, err := c.Text.ReadResponse(250)
	_, id, _ = strings.Cut(msg, "queued as ")
	return id, err
}
