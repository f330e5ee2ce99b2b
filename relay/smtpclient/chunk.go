package smtpclient

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// maxChunked is the size up to which a message goes out by BDAT. Some hosts keep
// a whole chunk in memory.
const maxChunked = 64 << 10

// warmTime is how long after its last reply a session counts as alive. A host may have
// closed an older one, and then it would not be known whether it took a message that went
// out in one write.
const warmTime = time.Second

// ErrChunking is returned where the host offers CHUNKING and does not know BDAT.
// Nothing was delivered then.
var ErrChunking = errors.New("the host offers CHUNKING and refuses BDAT")

// chunks reports whether t goes out by BDAT (RFC 3030). BDAT announces the length of
// the content, where DATA marks its end by a line that hosts may read differently.
func (c *Client) chunks(t *Transaction) bool {
	_, ok := c.ext["CHUNKING"]
	return ok && c.pipelining() && !c.noChunks && t.Size > 0 && t.Size <= maxChunked
}

// chunked sends the message by BDAT. content is called before the last chunk goes out.
//
// Where it is not known yet whether the host knows BDAT, and in doubt, the message goes
// in two chunks. The first one is the first line of the message and goes out with the
// envelope. It is never the last chunk, so nothing is delivered before the envelope was
// answered. This relay has written that line, so a host that does not know BDAT reads
// nothing as commands that a stranger wrote.
func (c *Client) chunked(t *Transaction, out *Outcome, content func() error) error {
	if c.knowsBDAT && !c.unended && time.Since(c.heard) < warmTime {
		return c.oneChunk(t, out, content)
	}
	body := bufio.NewReader(t.Body)
	first, err := body.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("message body: %w", err)
	}
	c.writeEnvelope(t)
	c.write(fmt.Sprintf("BDAT %d", len(first)))
	c.traceContent(int64(len(first)))
	_, _ = c.bw.Write(first) // an error stays in the writer until flush
	if err := c.flush("MAIL"); err != nil {
		return err
	}
	if err := c.envelope(t, out); err != nil || c.broken {
		return err
	}
	out.Data, err = c.read("BDAT", c.timeouts.Data)
	switch {
	case err != nil || !out.taken():
		return err // the chunk is given up with the transaction
	case !c.knowsBDAT && out.Data.Code >= 500 && out.Data.Code <= 504:
		return ErrChunking
	case !out.Data.OK():
		return nil
	}
	if err := content(); err != nil {
		return err
	}
	if err := c.lastChunk(body, t.Size-int64(len(first)), out); err != nil {
		return err
	}
	out.Final, err = c.read("BDAT", c.timeouts.Final)
	c.knowsBDAT = c.knowsBDAT || out.Final.OK()
	return err
}

// oneChunk sends envelope and message in one write (RFC 3030, 4.2). The host has taken a
// message by BDAT, so it reads no content as commands; no transaction is open, so it
// cannot take the content for another sender where it refuses this one.
func (c *Client) oneChunk(t *Transaction, out *Outcome, content func() error) error {
	if err := content(); err != nil {
		return err
	}
	c.writeEnvelope(t)
	if err := c.lastChunk(t.Body, t.Size, out); err != nil {
		return err
	}
	if err := c.envelope(t, out); err != nil {
		out.BodySent = out.Mail.Code == 0 || out.Mail.OK() // else it was refused for sure
		return err
	}
	if out.BodySent = out.taken() && !c.broken; c.broken {
		return nil
	}
	r, err := c.read("BDAT", c.timeouts.Final)
	if out.BodySent { // else it is about no recipient
		out.Final = r
	}
	return err
}

// lastChunk sends n octets of content as the last chunk of a message.
func (c *Client) lastChunk(content io.Reader, n int64, out *Outcome) error {
	c.write("BDAT " + strconv.FormatInt(n, 10) + " LAST")
	sent, err := io.Copy(c.bw, content)
	c.traceContent(sent)
	if err == nil && sent != n {
		err = fmt.Errorf("it has %d octets, not %d as announced", sent, n)
	}
	if err != nil {
		return c.contentError("BDAT", err)
	}
	if err := c.flush("BDAT"); err != nil {
		return err
	}
	out.BodySent = true
	return nil
}
