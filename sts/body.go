package sts

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// maxBody is the most that a policy may be, in octets, as it comes and decoded;
// one more is an error.
const maxBody = 64 << 10

// ErrContentCoding is wrapped by the error about an answer with a Content-Encoding
// that is not known, or with which the body does not agree.
var ErrContentCoding = phrase.Errorf("compressed answer that cannot be read")

// ErrContentType is wrapped by the error about an answer that is no text/plain.
var ErrContentType = phrase.Errorf("not text/plain")

// readBody reads the policy out of an answer. What is tolerated becomes a warning.
func readBody(resp *http.Response, warnings *Warnings) ([]byte, error) {
	if resp.StatusCode != http.StatusOK {
		if to := resp.Header.Get("Location"); to != "" {
			return nil, phrase.Errorf("it answered %s to %q, and redirects must not be followed (RFC 8461, 3.3)", resp.Status, cut(to, 120))
		}
		return nil, phrase.Errorf("it answered %q instead of 200", resp.Status)
	}
	if ct := resp.Header.Get("Content-Type"); ct == "" {
		warnings.Add(WarnContentType, phrase.New("the policy host sends no Content-Type; it should be text/plain"))
	} else if mediaType, _, err := mime.ParseMediaType(ct); err != nil && mediaType == "" || !strings.EqualFold(mediaType, "text/plain") {
		return nil, phrase.Errorf("its Content-Type is %q, %w", cut(ct, 80), ErrContentType)
	}
	if resp.ContentLength > maxBody {
		return nil, phrase.Errorf("it is %d octets long, more than %d", resp.ContentLength, maxBody)
	}
	reader, err := decoder(resp, warnings)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(reader, maxBody+1))
	if err != nil {
		return nil, codingError(resp, err)
	}
	if len(body) > maxBody {
		return nil, phrase.Errorf("it is longer than %d octets", maxBody)
	}
	return body, nil
}

// contentCoding is how the body is coded, "" where it is not (RFC 9110, 8.4).
func contentCoding(h http.Header) string {
	coding := strings.ToLower(strings.Trim(strings.Join(h.Values("Content-Encoding"), ","), " \t"))
	if coding == "identity" {
		return ""
	}
	return coding
}

// decoder reads the body without its coding. No coding is asked for; there are
// hosts that send one whatever is asked.
func decoder(resp *http.Response, warnings *Warnings) (io.Reader, error) {
	coding := contentCoding(resp.Header)
	if coding == "" {
		return resp.Body, nil
	}
	coded := bufio.NewReader(io.LimitReader(resp.Body, maxBody+1))
	start, err := coded.Peek(2)
	switch {
	case errors.Is(err, io.EOF) && len(start) == 0:
		return coded, nil // an empty body is empty in any coding
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	}
	var decoded io.Reader
	switch {
	case coding == "gzip" || coding == "x-gzip":
		decoded, err = gzip.NewReader(coded)
	case coding == "deflate" && isZlib(start):
		decoded, err = zlib.NewReader(coded)
	case coding == "deflate": // as some hosts understand the name
		decoded, err = flate.NewReader(coded), nil
	default:
		return nil, phrase.Errorf("its Content-Encoding is %q, which was not asked for: %w", cut(coding, 80), ErrContentCoding)
	}
	if err != nil {
		return nil, codingError(resp, err)
	}
	warnings.Add(WarnCompressed, phrase.New("the policy host compresses its answer (%s) though nobody asked for it; not every sender can read that", coding))
	return decoded, nil
}

// isZlib reports whether a body begins as RFC 1950 asks.
func isZlib(start []byte) bool {
	return len(start) == 2 && start[0]&0x0f == 8 && (int(start[0])<<8|int(start[1]))%31 == 0
}

// codingError adds the coding to an error of a decoder; an error of the connection stays
// as it is.
func codingError(resp *http.Response, err error) error {
	coding := contentCoding(resp.Header)
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if coding != "" && (corrupt || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, zlib.ErrChecksum) || errors.Is(err, zlib.ErrHeader) || errors.Is(err, zlib.ErrDictionary)) {
		return phrase.Errorf("its Content-Encoding is %s, and the body is something else: %w: %w", coding, ErrContentCoding, err)
	}
	return err
}
