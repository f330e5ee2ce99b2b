package dkim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mox "github.com/mjl-/mox/dkim"
	moxdns "github.com/mjl-/mox/dns"
)

// messages are the kinds of header that a signature meets.
var messages = map[string]string{
	"usual": "From: <a@example.com>\r\nTo: b@example.org\r\nSubject: a\r\n folded  subject\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n" +
		"Message-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello \r\n\r\nworld\r\n\r\n\r\n",
	"no subject and no recipients": "From: <a@example.com>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\r\nHello\r\n",
	"an empty subject":             "From: <a@example.com>\r\nTo: b@example.org\r\nCc: c@example.org\r\nReply-To: d@example.org\r\nSubject: \r\n\r\n",
}

// signedBy signs a message with an RSA and an Ed25519 key.
func signedBy(t *testing.T, message string, keys ...*Key) string {
	t.Helper()
	fields, err := NewSigner(time.Now, keys...).Sign("example.com", func(w io.Writer) error { _, err := io.WriteString(w, message); return err })
	if err != nil {
		t.Fatal(err)
	}
	return string(fields) + message
}

// Nobody can add a field that a program may show or obey in place of the signed
// one, whether that is there or not (RFC 6376, 8.15).
func TestNoFieldCanBeAdded(t *testing.T) {
	key := newKey(t, RSA, "example.com", "r1")
	for name, message := range messages {
		signed := signedBy(t, message, key)
		if v := verify(t, signed, key); len(v) != 1 || v[0].Err != nil {
			t.Fatalf("%s: %+v", name, v)
		}
		for _, field := range []string{"From: <x@example.net>", "Subject: you have won", "Date: Tue, 24 Nov 2026 12:00:00 +0000", "To: x@example.net", "Cc: x@example.net",
			"Reply-To: x@example.net", "MIME-Version: 1.0", "Content-Type: text/html", "Content-Transfer-Encoding: base64"} {
			for where, forged := range map[string]string{"in front": field + "\r\n" + signed, "behind": strings.Replace(signed, "\r\n\r\n", "\r\n"+field+"\r\n\r\n", 1)} {
				if v := verify(t, forged, key); len(v) != 1 || v[0].Err == nil {
					t.Errorf("%s: %s was added %s, and the signature holds", name, field, where)
				}
			}
		}
		other := strings.Replace(signed, "From: ", "Received: from a by b\r\nX-Spam: no\r\nFrom: ", 1) // what hosts on the way add
		if v := verify(t, other, key); v[0].Err != nil {
			t.Errorf("%s: with a Received field: %v", name, v[0].Err)
		}
	}
}

// Verifiers that nobody here wrote take the signatures: mox's, which wants the
// Subject to be signed, OpenDKIM and dkimpy where they are installed.
func TestOtherVerifiers(t *testing.T) {
	rsa, ed := newKey(t, RSA, "example.com", "r1"), newKey(t, Ed25519, "example.com", "e1")
	records := make(map[string]string)
	for _, k := range []*Key{rsa, ed} {
		records[k.RecordName()] = record(t, k, Services([]string{"reports"})...) // as `report setup` prints it
	}
	for name, message := range messages {
		t.Run("mox/"+name, func(t *testing.T) { byMox(t, signedBy(t, message, rsa, ed), records) })
		t.Run("OpenDKIM/"+name, func(t *testing.T) { byOpenDKIM(t, signedBy(t, message, rsa), records) })
		// dkimpy 1.1 reads one service in s= only; "tlsrpt:email" it takes for an
		// unknown one.
		mail := map[string]string{rsa.RecordName(): record(t, rsa, Services([]string{"mail"})...)}
		t.Run("dkimpy/"+name, func(t *testing.T) { byDKIMPy(t, signedBy(t, message, rsa), mail) })
	}
}

func byMox(t *testing.T, signed string, records map[string]string) {
	txt := make(map[string][]string)
	for name, r := range records {
		txt[name+"."] = []string{r}
	}
	results, err := mox.Verify(context.Background(), slog.New(slog.DiscardHandler), moxdns.MockResolver{TXT: txt}, false, mox.DefaultPolicy, strings.NewReader(signed), false)
	if err != nil || len(results) != 2 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for _, r := range results {
		if r.Status != mox.StatusPass {
			t.Errorf("%s: %v", r.Status, r.Err)
		}
	}
}

// programFor is a program and a file with the message for it.
func programFor(t *testing.T, program, signed string) (dir, file string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("skipped: %s is not installed", program)
	}
	dir = t.TempDir()
	file = filepath.Join(dir, "message")
	if err := os.WriteFile(file, []byte(signed), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func byOpenDKIM(t *testing.T, signed string, records map[string]string) {
	dir, file := programFor(t, "opendkim", signed)
	var keys strings.Builder
	for name, r := range records {
		fmt.Fprintf(&keys, "%s %s\n", name, r)
	}
	conf := filepath.Join(dir, "opendkim.conf")
	for name, text := range map[string]string{"keys": keys.String(), "opendkim.conf": "Mode v\nTestPublicKeys " + filepath.Join(dir, "keys") + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("opendkim", "-x", conf, "-t", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "verification (s=r1, d=example.com, 2048-bit key) succeeded") {
		t.Errorf("%v: %s", err, out)
	}
}

const pythonVerify = `
import sys, dkim
records = dict(line.rstrip("\n").split(" ", 1) for line in open(sys.argv[2]))
ok = dkim.verify(open(sys.argv[1], "rb").read(), dnsfunc=lambda name, timeout=5: records.get(name.decode().rstrip("."), "").encode())
print("verified" if ok else "refused")
`

func byDKIMPy(t *testing.T, signed string, records map[string]string) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import dkim").Run(); err != nil {
		t.Skip("skipped: dkimpy is not installed")
	}
	dir, file := programFor(t, python, signed)
	var keys strings.Builder
	for name, r := range records {
		fmt.Fprintf(&keys, "%s %s\n", name, r)
	}
	list := filepath.Join(dir, "keys")
	if err := os.WriteFile(list, []byte(keys.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "-c", pythonVerify, file, list).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "verified" {
		t.Errorf("%v: %s", err, out)
	}
}
