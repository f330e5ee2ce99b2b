package smtpclient

import (
	"bufio"
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

// chunked sends envelope and content in one write, once the host has shown that
// it knows BDAT.
func (c *Client) chunked(t *Transaction, out *Outcome, p *place) error {
	if !c.provenChunks.Load() {
		return c.firstChunked(t, out, p)
	}
	c.envelope(t)
	if err := c.lastChunk(t.Body, t.Size, out); err != nil {
		return err
	}
	if err := c.endOfWriting("BDAT", p); err != nil {
		return err
	}
	p.read()
	if c.goodbye.Load() {
		out.BodySent = false // what comes behind a 421 is not looked at
		return errOver
	}
	if err := c.readEnvelope(out); err != nil || c.broken.Load() {
		if c.goodbye.Load() {
			out.BodySent = false
		}
		return err
	}
	var err error
	out.Final, err = c.read("BDAT", c.timeouts.Final)
	if err == nil && !out.accepted() {
		out.Final = Reply{} // it is about no recipient
	}
	return err
}

// lastChunk writes n octets of content as the last chunk of a message.
func (c *Client) lastChunk(content io.Reader, n int64, out *Outcome) error {
	c.write(fmt.Sprintf("BDAT %d LAST", n))
	sent, err := io.Copy(c.bw, content)
	if err == nil && sent != n {
		err = fmt.Errorf("it has %d octets, not %d as announced", sent, n)
	}
	if err != nil {
		return fmt.Errorf("message body: %w", err)
	}
	out.BodySent = true
	return nil
}

// firstChunked sends the first message of a session that goes by BDAT. A host
// that offers CHUNKING and does not know BDAT takes what follows for commands,
// and the content, which a stranger may have written, could speak to it. So the
// first line, which this relay has written, goes alone and is answered first.
func (c *Client) firstChunked(t *Transaction, out *Outcome, p *place) error {
	content := bufio.NewReader(t.Body)
	first, err := content.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("message body: %w", err)
	}
	c.envelope(t)
	c.write(fmt.Sprintf("BDAT %d", len(first)))
	_, _ = c.bw.Write(first) // an error stays in the writer until flush
	if err := c.flush("BDAT"); err != nil {
		return err
	}
	p.read()
	if c.goodbye.Load() {
		return errOver
	}
	if err := c.readEnvelope(out); err != nil || c.broken.Load() {
		return err
	}
	answer, err := c.read("BDAT", c.timeouts.Data)
	switch {
	case err != nil:
		return err
	case c.broken.Load(): // by a 421
		out.Final = answer
		return nil
	case answer.OK() && out.accepted():
	case answer.Code >= 500 && answer.Code <= 504 && out.accepted():
		return ErrChunking
	default:
		if out.accepted() {
			out.Final = answer
		}
		_, err = c.command("RSET", c.timeouts.Mail, "RSET") // the message has no end yet
		return err
	}
	if err := c.lastChunk(content, t.Size-int64(len(first)), out); err != nil {
		return err
	}
	if err := c.flush("BDAT"); err != nil {
		return err
	}
	out.Final, err = c.read("BDAT", c.timeouts.Final)
	if err == nil && out.Final.OK() {
		c.provenChunks.Store(true)
	}
	return err
}
