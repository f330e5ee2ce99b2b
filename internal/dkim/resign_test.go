package dkim

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

// What stands in front of the relay's Received field are its own signatures; those of
// others stay, as does a message that it has not signed.
func TestResign(t *testing.T) {
	pem, err := Generate(Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := Parse(pem)
	if err != nil {
		t.Fatal(err)
	}
	k := &Key{Domain: "sender.example", Selector: "s1", Signer: signer}
	record, err := k.Record()
	if err != nil {
		t.Fatal(err)
	}
	const message = "Received: by relay\r\nDKIM-Signature: v=1; d=other.example; b=x\r\nFrom: anna@sender.example\r\n\r\ntext\r\n"
	s := NewSigner(time.Now, k)
	for _, tt := range []struct {
		name, front string
		signed      bool
	}{
		{"one signature", "DKIM-Signature: a=ed25519-sha256; d=sender.example;\r\n s=s1; b=old\r\n", true},
		{"two, in other case", "dkim-signature: v=1; s=s1;\r\n\td = sender.example; b=old\r\nDKIM-SIGNATURE: d=sender.example; b=old\r\n", true},
		{"no signature", "", false},
		{"a key that is gone", "DKIM-Signature: v=1; d=gone.example; b=old\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := s.Resign(func() io.Reader { return strings.NewReader(tt.front + message) })
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			fields, ok := bytes.CutSuffix(got, []byte(message))
			if !ok || bytes.Contains(fields, []byte("b=old")) || len(fields) > 0 != tt.signed {
				t.Fatalf("got\n%s", got)
			}
			if !tt.signed {
				return
			}
			verdicts, err := dkim.VerifyWithOptions(bytes.NewReader(got), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) { return []string{record}, nil }})
			if err != nil || len(verdicts) != 2 || verdicts[0].Err != nil {
				t.Fatalf("%+v, %v", verdicts, err)
			}
		})
	}
	if _, err := s.Resign(func() io.Reader { return io.MultiReader(strings.NewReader("DKIM-Signature: d=x\r\n"), failing{}) }); err == nil {
		t.Error("a message that cannot be read is signed")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
