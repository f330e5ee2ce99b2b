package delivery

import (
	"errors"
	"io"
)

// errNotHeld ends a transaction before its content is complete, where another relay may
// deliver the message by now.
var errNotHeld = errors.New("another relay may have taken the message over")

// heldBody is the body of a message. Before the last of it is read, and so before the
// final dot or the last BDAT, it asks whether the message is this relay's still: the
// process may have been suspended meanwhile.
type heldBody struct {
	body  io.Reader
	left  int64 // octets, where the size is known
	holds func() bool
}

func (h *heldBody) Read(p []byte) (int, error) {
	n, err := h.body.Read(p)
	h.left -= int64(n)
	if (h.left <= 0 || err != nil) && !h.holds() {
		return 0, errNotHeld
	}
	return n, err
}
