package dkim

import "hash"

// relaxedBody hashes the relaxed form of a body (RFC 6376, 3.4.4): no white space at the
// ends of lines, one space for other white space, and no empty lines at the end. What
// already has this form is hashed in long pieces, as it came.
//
// Between two texts of a body is a gap, of white space and line ends. What it comes to is
// known where the next text begins. A line end is CRLF; a bare LF becomes one, and a bare CR
// ends a line and stays as it is, so that every body has the same form here as with go-msgauth.
type relaxedBody struct {
	hash hash.Hash
	text bool // some was written

	// The gap before the next text.
	lines int    // CRLFs at its start; only counted, as there may be very many
	odd   []byte // the line ends from the first bare CR on
	cr    bool   // the last octet is a CR, which is not in odd yet
	space bool   // white space follows the line ends
}

// write adds to the body.
func (r *relaxedBody) write(p []byte) {
	for {
		if p = p[r.addGap(p):]; len(p) == 0 {
			return
		}
		r.writeGap()
		n := relaxedLen(p)
		r.hash.Write(p[:n])
		r.text = true
		p = p[n:]
	}
}

// end writes what ends the body.
func (r *relaxedBody) end() {
	if r.text {
		r.hash.Write(crlf)
	}
}

// addGap adds the octets at the start of p that belong to the gap, and returns how many
// they are.
func (r *relaxedBody) addGap(p []byte) int {
	for i, c := range p {
		if r.cr && c != '\n' {
			r.odd = append(r.odd, '\r')
		}
		r.cr = c == '\r'
		switch {
		case c == ' ' || c == '\t':
			r.space = true
		case c == '\r':
			r.space = false
		case c == '\n' && len(r.odd) == 0:
			r.space = false
			r.lines++
		case c == '\n':
			r.space = false
			r.odd = append(r.odd, "\r\n"...)
		default:
			return i
		}
	}
	return len(p)
}

var crlf, space = []byte("\r\n"), []byte(" ")

// writeGap writes what the gap comes to before a text.
func (r *relaxedBody) writeGap() {
	for range r.lines {
		r.hash.Write(crlf)
	}
	r.hash.Write(r.odd)
	if r.space {
		r.hash.Write(space)
	}
	r.lines, r.odd, r.space = 0, r.odd[:0], false
}

// relaxedLen is how many octets of p, which begins with a text, are in relaxed form: texts, and
// between them single spaces and single line ends.
func relaxedLen(p []byte) int {
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] > ' ':
		case p[i] == ' ' && i+1 < len(p) && p[i+1] > ' ':
		case p[i] == '\r' && i+2 < len(p) && p[i+1] == '\n' && p[i+2] > ' ':
			i += 2
		case p[i] == ' ' || p[i] == '\t' || p[i] == '\r' || p[i] == '\n':
			return i
		}
	}
	return len(p)
}
