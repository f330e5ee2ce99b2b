package smtpclient

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxChunked is the size up to which a message goes out by BDAT. Some hosts keep
// a whole chunk in memory.
const maxChunked = 64 << 10

// ErrChunking is returned where the host offers CHUNKING and does not know BDAT.
// Nothing was delivered then.
var ErrChunking = errors.New("the host offers CHUNKING and refuses BDAT")

// chunks reports whether t goes out by BDAT (RFC 3030). BDAT announces the length of
// the content, where DATA marks its end by a line that hosts may read differently.
func (c *Client) chunks(t *Transaction) bool {
	_, ok := c.ext["CHUNKING"]
	return ok && c.pipelining() && !c.noChunks && t.Size > 0 && t.Size <= maxChunked
}

// chunked sends the message by BDAT. The first chunk is the first line of the message
// and goes out with the envelope. It is never the last chunk, so nothing is delivered
// before the envelope was answered. This relay has written that line, so a host that
// does not know BDAT reads nothing as commands that a stranger wrote. content is called
// before the last chunk goes out.
func (c *Client) chunked(t *Transaction, out *Outcome, content func() error) error {
	body := bufio.NewReader(t.Body)
	first, err := body.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("message body: %w", err)
	}
	c.writeEnvelope(t)
	c.write(fmt.Sprintf("BDAT %d", len(first)))
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

// lastChunk sends n octets of content as the last chunk of a message.
func (c *Client) lastChunk(content io.Reader, n int64, out *Outcome) error {
	c.write(fmt.Sprintf("BDAT %d LAST", n))
	sent, err := io.Copy(c.bw, content)
	if err == nil && sent != n {
		err = fmt.Errorf("it has %d octets, not %d as announced", sent, n)
	}
	if err != nil {
		return fmt.Errorf("message body: %w", err)
	}
	if err := c.flush("BDAT"); err != nil {
		return err
	}
	out.BodySent = true
	return nil
}
