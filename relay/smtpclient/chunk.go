package smtpclient

import (
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// maxChunked is the size up to which a message goes out behind its envelope
	// before that is answered. A larger one would be sent in vain where the
	// recipient is refused.
	maxChunked = 64 << 10
	// hot is how long after an answer a session is taken to be alive. Content
	// that went into a dead one is of a message that may have been delivered.
	hot = time.Second
)

// ErrChunking says that the host offers CHUNKING and does not know BDAT. Nothing
// was delivered.
var ErrChunking = errors.New("the host offers CHUNKING and refuses BDAT")

func (c *Client) knowsChunks() bool {
	_, ok := c.ext["CHUNKING"]
	return ok && !c.noChunks
}

// chunks says whether t goes out by BDAT (RFC 3030): that saves the round trip
// that waits for the go-ahead to DATA, and lets transaction follow transaction
// without waiting for anything.
func (c *Client) chunks(t *Transaction) bool {
	return c.knowsChunks() && t.Size > 0 && t.Size <= maxChunked && time.Since(time.Unix(0, c.answered.Load())) < hot
}

// chunked sends envelope and content in one write. The first time nothing
// follows before the host has shown that it knows BDAT.
func (c *Client) chunked(t *Transaction, out *Outcome, p *place) error {
	c.envelope(t)
	c.write(fmt.Sprintf("BDAT %d LAST", t.Size))
	n, err := io.Copy(c.bw, t.Body)
	if err == nil && n != t.Size {
		err = fmt.Errorf("it has %d octets, not %d as announced", n, t.Size)
	}
	if err != nil {
		return fmt.Errorf("message body: %w", err)
	}
	out.BodySent = true
	if c.provenChunks.Load() {
		err = c.endOfWriting("BDAT", p)
	} else {
		err = c.flush("BDAT")
	}
	if err != nil {
		return err
	}
	p.read()
	if c.goodbye.Load() {
		out.BodySent = false // what comes behind a 421 is not looked at
		return errOver
	}
	if err := c.readEnvelope(out); err != nil || c.broken.Load() {
		return err
	}
	if out.Final, err = c.read("BDAT", c.timeouts.Final); err != nil {
		return err
	}
	if !out.accepted() {
		out.Final = Reply{} // it is about no recipient
		return nil
	}
	if out.Final.Code >= 500 && out.Final.Code <= 504 && !c.provenChunks.Load() {
		// From a host that has taken a message by BDAT it is about this message.
		out.Final = Reply{}
		return ErrChunking
	}
	if out.Final.OK() {
		c.provenChunks.Store(true)
	}
	return nil
}
