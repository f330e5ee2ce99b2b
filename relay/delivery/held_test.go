package delivery

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// The last octets of a message are not handed over where the message may be another
// relay's by now.
func TestTheEndOfAMessageStaysBackWhereItMayBeAnotherRelays(t *testing.T) {
	const body = "one\r\ntwo\r\n"
	for _, row := range []struct {
		name   string
		size   int64 // 0: not known
		holds  bool
		reader func(io.Reader) io.Reader
	}{
		{"it holds", int64(len(body)), true, nil},
		{"it holds, the size is not known", 0, true, nil},
		{"it ended", int64(len(body)), false, nil},
		{"it ended, octet by octet", int64(len(body)), false, iotest.OneByteReader},
		{"it ended, the size is not known", 0, false, nil},
		{"it ended, the end comes with the last octets", int64(len(body)), false, iotest.DataErrReader},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := io.Reader(strings.NewReader(body))
			if row.reader != nil {
				r = row.reader(r)
			}
			got, err := io.ReadAll(&heldBody{body: r, left: row.size, holds: func() bool { return row.holds }})
			if row.holds && (err != nil || string(got) != body) || !row.holds && !errors.Is(err, errNotHeld) {
				t.Errorf("%q, %v", got, err)
			}
			if !row.holds && row.size > 0 && string(got) == body {
				t.Error("the whole message was handed over")
			}
		})
	}
}
