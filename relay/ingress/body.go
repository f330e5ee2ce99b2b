package ingress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// This file is the part of conn that reads the content of messages.

const (
	// blockTime bounds each read inside a body. After rateGrace, a body must have
	// arrived at minRate octets a second or more on average.
	blockTime = 2 * time.Minute
	rateGrace = time.Minute
	minRate   = 100
)

// body returns the next part of a message's content, with dots unstuffed and every line
// ended by CRLF. The part is valid until the next call. The error is io.EOF after the
// last part, or if the client has abandoned the message (aborted).
func (c *conn) body() ([]byte, error) {
	for c.dialogue.state().inContent() {
		if errors.Is(c.err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if c.err != nil {
			return nil, c.err
		}
		c.content.part = c.content.part[:0]
		var err error
		switch c.dialogue.state() {
		case stateData:
			err = c.readData()
		case stateChunk:
			err = c.readChunk()
		default: // between two chunks
			err = c.readCommand()
		}
		if err != nil {
			c.fail(err)
		}
		if len(c.content.part) > 0 {
			return c.content.part, nil
		}
	}
	if c.dialogue.state() != stateCommitting {
		return nil, io.ErrUnexpectedEOF // the session ended between two chunks
	}
	return nil, io.EOF
}

// content is the state of a message's content while it is received.
type content struct {
	filter  dataFilter
	part    []byte // the part read last
	started time.Time
	octets  int64
	left    int64 // octets of the current chunk that were not read yet
	last    bool  // the current chunk is the last
	aborted bool  // the client abandoned the message
}

// reset prepares for a new message, sent by BDAT (chunks) or by DATA.
func (b *content) reset(chunks bool) {
	b.filter = dataFilter{lineStart: true, chunks: chunks}
	b.started, b.octets, b.aborted = time.Now(), 0, false
}

// endContent signals the end of a message to go-smtp.
func (c *conn) endContent(in input) {
	if c.enter(in) {
		c.give([]byte(".\r\n"))
	}
}

// takeChunkSize parses the arguments of BDAT (RFC 3030, 2), and reports whether they are
// valid. The client sends the chunk after the command whatever the reply is. So where the
// arguments cannot be read the session ends: lines of a message must not become commands.
func (c *conn) takeChunkSize(arg string) bool {
	f := strings.Fields(arg)
	if len(f) == 0 || len(f) > 2 || len(f) == 2 && !strings.EqualFold(f[1], "LAST") {
		c.say("501 5.5.4 BDAT takes a size, and LAST for the last chunk; goodbye")
		c.enter(goodbye)
		return false
	}
	n, err := strconv.ParseUint(f[0], 10, 63)
	if err != nil {
		c.say("501 5.5.4 the size of the chunk is not a number, or too large; goodbye")
		c.enter(goodbye)
		return false
	}
	c.content.left, c.content.last = int64(n), len(f) == 2
	if n == 0 && !c.content.last {
		c.fruitless++ // an empty chunk brings nothing
	}
	if !c.dialogue.state().inContent() {
		c.content.started, c.content.octets = time.Now(), 0
	}
	return true
}

// bodyDeadline sets the deadline for the next read of a body, and returns an error if
// the body is too slow. A body may take as long as limits.SessionTime, counted from its
// start.
func (c *conn) bodyDeadline() error {
	took, most := time.Since(c.content.started), c.server.limits().SessionTime
	if took > rateGrace && float64(c.content.octets) < minRate*took.Seconds() || took > most {
		return fmt.Errorf("the message comes in too slowly: %w", os.ErrDeadlineExceeded)
	}
	return c.Conn.SetReadDeadline(c.until(min(blockTime, most-took)))
}

func (c *conn) readData() error {
	if err := c.bodyDeadline(); err != nil {
		return err
	}
	piece, err := c.br.ReadSlice('\n')
	c.content.octets += int64(len(piece))
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	var end bool
	c.content.part, end = c.content.filter.append(c.content.part, piece)
	// Append further lines that are buffered already.
	for !end && c.br.Buffered() > 0 && len(c.content.part) < 2*readBuffer {
		piece, _ = c.br.Peek(c.br.Buffered())
		i := bytes.IndexByte(piece, '\n')
		if i < 0 {
			break // the filter needs whole lines
		}
		piece = piece[:i+1]
		c.content.part, end = c.content.filter.append(c.content.part, piece)
		c.content.octets += int64(len(piece))
		_, _ = c.br.Discard(len(piece))
	}
	if end {
		c.endContent(contentEnd)
	}
	return nil
}

// readChunk reads a part of a chunk, and replies when the chunk is complete.
func (c *conn) readChunk() error {
	if c.content.left > 0 {
		piece, err := c.chunkPiece()
		if err != nil {
			return err
		}
		c.content.part = c.content.filter.appendChunk(c.content.part, piece)
		_, _ = c.br.Discard(len(piece))
	}
	switch {
	case c.content.left > 0:
	case c.content.last:
		c.content.part = c.content.filter.completeLine(c.content.part)
		c.endContent(contentEnd)
	case c.enter(chunkEnd):
		c.say("250 2.0.0 go on")
	}
	return nil
}

// skipChunk discards a part of a chunk whose BDAT was refused.
func (c *conn) skipChunk() error {
	piece, err := c.chunkPiece()
	if err != nil {
		return err
	}
	_, _ = c.br.Discard(len(piece))
	return nil
}

// chunkPiece returns the next octets of the current chunk. They stay in the reader.
func (c *conn) chunkPiece() ([]byte, error) {
	if err := c.bodyDeadline(); err != nil {
		return nil, err
	}
	if _, err := c.br.Peek(1); err != nil {
		return nil, err
	}
	piece, _ := c.br.Peek(int(min(int64(c.br.Buffered()), c.content.left)))
	c.content.left -= int64(len(piece))
	c.content.octets += int64(len(piece))
	return piece, nil
}
