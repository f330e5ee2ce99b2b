package history

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The lines are as encoding/json writes them, for every field and every text.
func TestLinesAreThoseOfEncodingJSON(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 0, 0, 120, time.UTC)
	full := Record{
		At: at, Kind: Attempt, QueueID: "01A", MessageID: "<a&b@x>", From: "a@x", To: []string{"b@y", `"q \\ "@y`}, Domain: "y", Size: 7, Subject: "s", Client: "c", User: "u", ClientTLS: "TLS 1.3",
		Verdict: "deferred", Why: "dns", Host: "h", IP: "::1", Reply: "450\ta\nb\r\x01\x7f", Status: "4.4.3", Error: "ü\u2028\xff\"", Number: 2, Took: 0.00012,
		TLS: &TLS{Version: "TLS 1.3", Cipher: "c", Group: "g", OfferedAndBroke: true, Proof: ProofDANE, PolicyID: "1", PolicyMode: "enforce", PolicyFetched: &at, TLSA: "3 1 1 ab",
			Certificate: &Certificate{SHA256: "ab", Subject: "CN=x", Names: []string{"x", "y"}, Issuer: "CN=i", Serial: "1f", NotBefore: at, NotAfter: at}},
		What: "what", By: "web", Notice: "01B", MissingFrom: &at, MissingTo: &at, Lines: 3,
	}
	for _, r := range []Record{full, {At: at, Kind: Gap}, {At: at, Kind: Accepted, TLS: &TLS{Proof: ProofNone, Certificate: new(Certificate)}}} {
		want, err := encode(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.line(nil); !bytes.Equal(got, want) {
			t.Errorf("got  %swant %s", got, want)
		}
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the test has no value for %s", v.Type().Field(i).Name)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\", "\x00\x1f\x7f", "ü\u2028", "\xff\xc3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := encode(s)
		if got := appendText(nil, s); err != nil || string(got) != strings.TrimSuffix(string(want), "\n") {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	})
}

// encode returns v as one line of JSON by encoding/json, with < and > as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
