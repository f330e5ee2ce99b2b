package printable

import (
	"bytes"
	"encoding/json"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"
)

func TestString(t *testing.T) {
	for in, want := range map[string]string{
		"plain äöü 日本 😀": "plain äöü 日本 😀", "": "", "\x1b[31m": `\x1b[31m`, "a\r\nb\tc": `a\x0d\x0ab\x09c`, "\xff": `\xff`, "\u202eabc": `\u202eabc`,
		"\u009b31m": `\u009b31m`, "a\x7fb": `a\x7fb`, "\u2066": `\u2066`, "\U000e0001": `\U000e0001`, "\uFFFD": "\uFFFD", "ab\xc3": `ab\xc3`, "\xef": `\xef`, "\u00a0": `\u00a0`,
	} {
		if got := String(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestWriter(t *testing.T) {
	const in = "Grüße\t\x1b]0;x\x07\n\u202e\u009b\xe2\x82x \r\n"
	const want = "Grüße\t" + `\x1b]0;x\x07` + "\n" + `\u202e\u009b\xe2\x82x \x0d` + "\n"
	for name, write := range map[string]func(w *Writer){
		"at once":        func(w *Writer) { _, _ = w.Write([]byte(in)) },
		"octet by octet": func(w *Writer) { _ = copyOctets(w, in) },
	} {
		var b bytes.Buffer
		write(NewWriter(&b))
		if b.String() != want {
			t.Errorf("%s: %q, want %q", name, b.String(), want)
		}
	}
	if n, err := NewWriter(iotest.TruncateWriter(&bytes.Buffer{}, 1)).Write([]byte("abc")); n != 3 || err != nil {
		t.Error(n, err)
	}
}

func copyOctets(w *Writer, s string) error {
	for i := range len(s) {
		if _, err := w.Write([]byte{s[i]}); err != nil {
			return err
		}
	}
	return nil
}

func FuzzJSONMeansTheSame(f *testing.F) {
	f.Add("\u202e\u009b\x7f\U000e0001 ü\n")
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := copyOctets(NewJSONWriter(&b), string(text)); err != nil {
			t.Fatal(err)
		}
		var got, want string
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatalf("%v: %s", err, b.Bytes())
		}
		if _ = json.Unmarshal(text, &want); got != want {
			t.Errorf("%q has become %q", want, got)
		}
		for _, r := range b.String() {
			if !unicode.IsPrint(r) {
				t.Errorf("%q is left in %q", r, b.String())
			}
		}
		if out := String(s); !utf8.ValidString(out) || !clean(out) {
			t.Errorf("%q is not clean", out)
		}
	})
}
