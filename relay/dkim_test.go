package relay_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	godkim "github.com/emersion/go-msgauth/dkim"

	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// The relay's signature is of what the host gets, in whichever encoding, and has the time of
// the relay's clock.
func TestASignatureHoldsIn7BitContent(t *testing.T) {
	w, keys := signedWorld(t)
	old, modern := w.Host("mx.old.example"), w.Host("mx.modern.example")
	w.SetFaults(old, testnet.Faults{Without: []string{"8BITMIME", "SMTPUTF8"}})
	w.Domain("old.example", testnet.Domain{MX: []string{old.Name}})
	w.Domain("modern.example", testnet.Domain{MX: []string{modern.Name}})
	const message = "From: anna@sender.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n"
	if _, err := e2e.SendMail(w.Addr, "anna@sender.example", message, "kurt@old.example", "eva@modern.example"); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*testnet.Host{old, modern} {
		data := w.Received(h, 1)[0].Data
		verdicts, err := godkim.VerifyWithOptions(bytes.NewReader(data), &godkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return []string{keys[name]}, nil }})
		if err != nil || len(verdicts) != 2 {
			t.Fatalf("%s: %d signatures, %v\n%s", h.Name, len(verdicts), err, data)
		}
		for _, v := range verdicts {
			if v.Err != nil || !v.Time.Equal(w.Clock.Now()) {
				t.Errorf("%s: signed at %s, %v\n%s", h.Name, v.Time, v.Err, data)
			}
		}
	}
}

// signedWorld is a world with keys for sender.example, an RSA and an Ed25519
// one, that sign mail. keys are the TXT records by name.
func signedWorld(t testing.TB) (w *e2e.World, keys map[string]string) {
	t.Helper()
	w = e2e.NewWithClock(t)
	keys = make(map[string]string)
	toml := ""
	for _, kind := range []string{dkim.RSA, dkim.Ed25519} {
		pem, err := dkim.Generate(kind)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(w.Dir, kind+".pem")
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := dkim.Load("sender.example", kind, file)
		if err != nil {
			t.Fatal(err)
		}
		if keys[k.RecordName()], err = k.Record(); err != nil {
			t.Fatal(err)
		}
		toml += fmt.Sprintf("[[dkim]]\ndomain = \"sender.example\"\nselector = %q\nkey_file = %q\nsign = [\"mail\"]\n", kind, file)
	}
	w.Start(toml)
	return w, keys
}

func TestRelayedMailIsSignedByTheDomainOfItsFrom(t *testing.T) {
	w, keys := signedWorld(t)
	h := w.Host("mx1.signed.example")
	w.Domain("signed.example", testnet.Domain{MX: []string{h.Name}})
	big := strings.Repeat(strings.Repeat("y", 70)+"\r\n", 10_000) // several chunks
	n := 0
	for _, tt := range []struct {
		from   string
		body   string
		signed int
	}{
		{"anna@sender.example", "Hello\r\n.dots\r\n", 2},
		{"\"Anna, of Sales\"\r\n <anna@SENDER.example>", "trailing space  \r\n\r\n\r\n", 2},
		{"anna@sender.example", big, 2},
		{"anna@sender.example", "", 2},
		{"anna@other.example", "Hello\r\n", 0},
		{"anna@sub.sender.example", "Hello\r\n", 0},
		{"nonsense", "Hello\r\n", 0},
	} {
		// The envelope's sender does not matter.
		if _, err := e2e.SendMail(w.Addr, "bounces@other.example", "From: "+tt.from+"\r\nTo: kurt@signed.example\r\nSubject: Hello\r\n\r\n"+tt.body, "kurt@signed.example"); err != nil {
			t.Fatal(err)
		}
		n++
		got, err := h.Wait(w.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		m := got[n-1]
		if !strings.Contains(m.Params, fmt.Sprintf("SIZE=%d", len(m.Data))) {
			t.Errorf("%s: announced as %s, came with %d octets", tt.from, m.Params, len(m.Data))
		}
		verdicts, err := godkim.VerifyWithOptions(bytes.NewReader(m.Data), &godkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
			return []string{keys[name]}, nil
		}})
		if err != nil || len(verdicts) != tt.signed {
			t.Errorf("%s: %d signatures, %v", tt.from, len(verdicts), err)
		}
		for _, v := range verdicts {
			if v.Err != nil || v.Domain != "sender.example" {
				t.Errorf("%s: a signature of %s: %v", tt.from, v.Domain, v.Err)
			}
		}
		// A second From would not go unnoticed.
		if tt.signed > 0 {
			forged := append([]byte("From: boss@sender.example\r\n"), m.Data...)
			verdicts, err = godkim.VerifyWithOptions(bytes.NewReader(forged), &godkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return []string{keys[name]}, nil }})
			if err != nil || len(verdicts) == 0 || verdicts[0].Err == nil {
				t.Errorf("%s: with a second From the signature holds: %v", tt.from, err)
			}
		}
	}
}
