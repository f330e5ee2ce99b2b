package ingress

import (
	"context"
	"crypto/tls"
	"io"
	"time"
)

// This file is the TLS below the session: STARTTLS, and the handshake.

// handshakeTime bounds a TLS handshake.
const handshakeTime = 30 * time.Second

// startTLS answers STARTTLS (RFC 3207), and begins TLS where it may.
func (c *conn) startTLS(arg string) error {
	switch {
	case arg != "":
		c.say("501 5.5.4 STARTTLS takes no arguments")
		return nil
	case c.tls != nil:
		c.say("503 5.5.1 TLS is already in use")
		return nil
	case c.listener.tlsConfig == nil:
		c.say("502 5.5.1 TLS is not offered here")
		return nil
	}
	if n := c.br.Buffered(); n > 0 {
		// It was sent in clear and could be anybody's (RFC 3207, 6).
		c.server.log.Warn("clear text behind STARTTLS was thrown away", "client", c.remote.String(), "octets", n)
		_, _ = c.br.Discard(n)
	}
	c.say("220 2.0.0 Go ahead")
	if err := c.handshake(); err != nil {
		return io.EOF
	}
	// What was said in clear counts no more (RFC 3207, 4.2).
	c.enter(cmdSTARTTLS)
	c.dialogue.esmtp, c.args, c.sender = false, args{}, ""
	c.dialogue.silent = true
	c.ask(cmdRSET, []byte("RSET\r\n"))
	return nil
}

func (c *conn) handshake() error {
	t := tls.Server(c.Conn, c.listener.tlsConfig)
	ctx, cancel := context.WithDeadline(context.Background(), c.until(handshakeTime))
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		c.server.log.Info("TLS handshake failed", append(c.who(), "listener", c.listener.options.Address, "error", err)...)
		return err
	}
	state := t.ConnectionState()
	c.server.mu.Lock() // drain and Close come from other goroutines
	c.Conn, c.tls = t, &state
	c.server.mu.Unlock()
	c.br.Reset(t)
	if c.hasCertificate() {
		c.server.recognize(c)
	}
	return nil
}
