package dkim

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

const fieldName = "DKIM-Signature:"

// maxFront bounds the signatures in front of a message, in octets.
const maxFront = 64 << 10

// Resign returns the message that open opens, with new signatures in place of those
// in front of it, for their domain. Those are this relay's: its Received field comes
// next. It is for a message that was encoded anew on its way to a host, as the old
// signatures are no longer true (RFC 6376, 5.3). A message without signatures in
// front is returned as it is. open is called twice; the error is one of reading.
func (s *Signer) Resign(open func() io.Reader) (io.Reader, error) {
	r := bufio.NewReaderSize(open(), maxFront)
	front, domain, err := readFront(r)
	if err != nil {
		return nil, err
	}
	if front == 0 {
		return r, nil
	}
	fields, err := s.Sign(domain, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
	if err != nil && !errors.Is(err, ErrNoKey) { // without a key it goes unsigned
		return nil, err
	}
	again := bufio.NewReaderSize(open(), maxFront)
	if _, err := again.Discard(front); err != nil {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(fields), again), nil
}

// readFront reads the signatures in front of a message. n is how long they are, and
// domain that of the last one.
func readFront(r *bufio.Reader) (n int, domain string, err error) {
	for {
		name, err := r.Peek(len(fieldName))
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, "", err
		}
		if !strings.EqualFold(string(name), fieldName) {
			return n, domain, nil
		}
		field, err := readField(r)
		if err != nil {
			return 0, "", err
		}
		n += len(field)
		for tag := range strings.SplitSeq(field[len(fieldName):], ";") {
			if name, value, ok := strings.Cut(tag, "="); ok && strings.TrimSpace(name) == "d" {
				domain = strings.TrimSpace(value)
			}
		}
	}
}

// readField reads a field with the lines that continue it.
func readField(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		b.Write(line)
		next, err := r.Peek(1)
		if err != nil {
			return "", err
		}
		if next[0] != ' ' && next[0] != '\t' {
			return b.String(), nil
		}
	}
}
