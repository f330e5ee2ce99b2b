// Package sevenbit makes the content of MIME messages fit for hosts that cannot
// take all of it, and changes nothing that a reader of MIME sees.
//
// NewReader turns 8-bit content into 7-bit content, for hosts that do not offer
// 8BITMIME (RFC 6152, 3): parts that say that they are 8bit or binary become
// quoted-printable (RFC 2045, 6.7). All other octets pass unchanged. A part that has
// 8-bit octets and does not declare them cannot be converted and passes unchanged too.
// Survey is about lines that are too long.
package sevenbit

import (
	"bytes"
	"errors"
	"io"
)

// NewReader returns a reader of the message in r, converted to 7 bits. Lines end
// in CRLF or LF.
func NewReader(r io.Reader) io.Reader { return newReader(r, &toSevenBit{}) }

// toSevenBit is the convertor of NewReader.
type toSevenBit struct {
	buf    []byte
	encode bool // the body of the present part becomes quoted-printable
	quoter quoter
}

func (c *toSevenBit) head(header []byte, p part) {
	c.encode, c.quoter = false, quoter{}
	if p.kind == isOpaque || p.encoding != "8bit" && p.encoding != "binary" {
		c.buf = append(c.buf, header...)
		return
	}
	encoding := "7bit"
	if p.kind == isLeaf {
		c.encode, encoding = true, "quoted-printable"
	}
	c.buf = setEncoding(c.buf, header, encoding, false)
}

func (c *toSevenBit) body(fragment []byte) {
	if c.encode {
		c.buf = c.quoter.line(c.buf, fragment)
	} else {
		c.buf = append(c.buf, fragment...)
	}
}

func (c *toSevenBit) outside(p []byte) {
	c.encode = false
	c.buf = append(c.buf, p...)
}

func (c *toSevenBit) output() []byte {
	out := c.buf
	c.buf = c.buf[:0]
	return out
}

func (c *toSevenBit) end() {}

// Needed reads r to its first 8-bit octet and reports whether there is one.
func Needed(r io.Reader) (bool, error) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if bytes.ContainsFunc(buf[:n], func(c rune) bool { return c >= 0x80 }) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
