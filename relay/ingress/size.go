package ingress

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

// cutSize takes the parameter SIZE (RFC 1870, 6) out of a MAIL command, since
// go-smtp reads no more than 32 bits of it. What is no size stays in, for
// go-smtp to refuse; one that no number of ours can hold is the largest.
func cutSize(line []byte) (rest []byte, size int64) {
	rest = append(rest, line[:pathEnd(line)]...)
	for param := range bytes.FieldsSeq(line[len(rest):]) {
		if digits, ok := cutPrefixFold(param, "SIZE="); ok {
			n, err := strconv.ParseUint(string(digits), 10, 64)
			if err == nil || errors.Is(err, strconv.ErrRange) { // n is the largest then
				size = int64(min(n, math.MaxInt64))
				continue
			}
		}
		rest = append(append(rest, ' '), param...)
	}
	return append(rest, "\r\n"...), size
}

// pathEnd is where the address of a MAIL command ends and its parameters begin:
// behind the bracket, or where there is none at the first space behind what may
// stand before the address. Quoted spaces and brackets are of the address.
func pathEnd(line []byte) int {
	colon := bytes.IndexByte(line, ':')
	path := bytes.TrimLeft(line[colon+1:], " ")
	end, quoted := byte(' '), false
	if bytes.HasPrefix(path, []byte("<")) {
		end = '>'
	}
	start := len(line) - len(path)
	for i := 0; i < len(path); i++ {
		switch b := path[i]; {
		case b == '\\' && quoted:
			i++
		case b == '"':
			quoted = !quoted
		case b == end && !quoted:
			if end == '>' {
				i++
			}
			return start + i
		}
	}
	return len(bytes.TrimRight(line, "\r\n"))
}

func cutPrefixFold(s []byte, prefix string) ([]byte, bool) {
	if len(s) < len(prefix) || !bytes.EqualFold(s[:len(prefix)], []byte(prefix)) {
		return nil, false
	}
	return s[len(prefix):], true
}
