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
	// blockTime bounds each read inside a body; a body that has taken longer
	// than rateGrace must have come at minRate octets a second.
	blockTime = 2 * time.Minute
	rateGrace = time.Minute
	minRate   = 100
)

// body gives the next part of a message's content, dots unstuffed, every line
// ended by CRLF. It is good until the next call. The error is io.EOF after the
// last part, or where the client has given the message up (aborted).
func (c *conn) body() ([]byte, error) {
	for c.receiving {
		if errors.Is(c.err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if c.err != nil {
			return nil, c.err
		}
		c.part = c.part[:0]
		var err error
		switch c.mode {
		case data:
			err = c.readData()
		case chunk:
			err = c.readChunk()
		default:
			err = c.readCommand() // between two chunks
		}
		if err != nil {
			c.fail(err)
		}
		if len(c.part) > 0 {
			return c.part, nil
		}
	}
	return nil, io.EOF
}

// beginBody and endBody stand around the content of a message.
func (c *conn) beginBody(m mode) {
	c.mode, c.receiving, c.aborted = m, true, false
	c.data = dataFilter{lineStart: true, chunks: m == chunk}
	c.bodyStart, c.bodyBytes = time.Now(), 0
}

func (c *conn) endBody() {
	c.mode, c.receiving = commands, false
	c.out = append(c.out[:0], ".\r\n"...)
}

// startChunk is BDAT (RFC 3030, 2). The chunk follows the command whatever the
// answer will be.
func (c *conn) startChunk(arg string) error {
	f := strings.Fields(arg)
	if len(f) == 0 || len(f) > 2 || len(f) == 2 && !strings.EqualFold(f[1], "LAST") {
		c.say("501 5.5.4 BDAT takes a size, and LAST for the last chunk")
		return nil
	}
	n, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil {
		c.say("501 5.5.4 the size of the chunk is not a number")
		return nil //nolint:nilerr // the client was told
	}
	c.chunk, c.last = int64(n), len(f) == 2
	if n == 0 && !c.last {
		c.fruitless++ // an empty chunk brings nothing
	}
	if c.receiving {
		c.mode = chunk
		return nil
	}
	c.mode = opening
	c.out = append(c.out[:0], "DATA\r\n"...)
	return nil
}

// betweenChunks answers what is not BDAT while a message comes in chunks.
func (c *conn) betweenChunks() error {
	switch c.command {
	case "RSET":
		// go-smtp sees the end of the message, and Session.Data that it is none;
		// what that answers is the answer to RSET.
		c.aborted = true
		c.endBody()
	case "QUIT":
		c.say("221 2.0.0 Bye")
		return io.EOF
	case "NOOP":
		c.say("250 2.0.0 ok")
	default:
		c.say("503 5.5.1 a message is coming in chunks: BDAT, or RSET to give it up")
	}
	return nil
}

// bodyDeadline gives the next read of a body its time. A body has the time of a
// whole session, counted anew.
func (c *conn) bodyDeadline() error {
	took, most := time.Since(c.bodyStart), c.server.limits().SessionTime
	if took > rateGrace && float64(c.bodyBytes) < minRate*took.Seconds() || took > most {
		return fmt.Errorf("the message comes in too slowly: %w", os.ErrDeadlineExceeded)
	}
	return c.Conn.SetReadDeadline(c.until(min(blockTime, most-took)))
}

func (c *conn) readData() error {
	if err := c.bodyDeadline(); err != nil {
		return err
	}
	piece, err := c.br.ReadSlice('\n')
	c.bodyBytes += int64(len(piece))
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	var end bool
	c.part, end = c.data.append(c.part, piece)
	// More of what is here already goes along.
	for !end && c.br.Buffered() > 0 && len(c.part) < 2*readBuffer {
		piece, _ = c.br.Peek(c.br.Buffered())
		i := bytes.IndexByte(piece, '\n')
		if i < 0 {
			break // the filter wants whole lines
		}
		piece = piece[:i+1]
		c.part, end = c.data.append(c.part, piece)
		c.bodyBytes += int64(len(piece))
		_, _ = c.br.Discard(len(piece))
	}
	if end {
		c.endBody()
	}
	return nil
}

// readChunk reads a part of a chunk, and answers the chunk when it is whole.
func (c *conn) readChunk() error {
	if c.chunk > 0 {
		if err := c.bodyDeadline(); err != nil {
			return err
		}
		if _, err := c.br.Peek(1); err != nil {
			return err
		}
		piece, _ := c.br.Peek(int(min(int64(c.br.Buffered()), c.chunk)))
		if c.mode == chunk {
			c.part = c.data.appendChunk(c.part, piece)
		}
		c.chunk -= int64(len(piece))
		c.bodyBytes += int64(len(piece))
		_, _ = c.br.Discard(len(piece))
	}
	switch {
	case c.chunk > 0:
	case c.mode == discard:
		c.mode = commands
	case c.last:
		c.part = c.data.end(c.part)
		c.endBody()
	default:
		c.mode = commands
		c.say("250 2.0.0 go on")
	}
	return nil
}
