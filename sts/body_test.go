package sts

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"testing"
)

func FuzzReadBody(f *testing.F) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte("version: STSv1\n"))
	_ = w.Close()
	f.Add("gzip", packed.Bytes())
	f.Add("deflate", []byte{0x78, 0x9c})
	f.Add("gzip", []byte{})
	f.Add("gzip, br", []byte("x"))
	f.Add("", []byte("version: STSv1\n"))
	f.Fuzz(func(t *testing.T, coding string, body []byte) {
		resp := &http.Response{
			StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(bytes.NewReader(body)),
			Header: http.Header{"Content-Type": {"text/plain"}, "Content-Encoding": {coding}},
		}
		var warnings Warnings
		got, err := readBody(resp, &warnings)
		if len(got) > maxBody || err != nil && got != nil {
			t.Errorf("%d octets, %v", len(got), err)
		}
		if contentCoding(resp.Header) == "" && len(body) <= maxBody && !bytes.Equal(got, body) {
			t.Errorf("%q became %q", body, got)
		}
	})
}
