package received

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"
)

// A stranger chooses the key of a signature, and a record has room for one with which a
// signature takes half a minute to check.
func TestACostlyKeyCostsLittle(t *testing.T) {
	h := newHarness(t)
	const octets = 45_000
	modulus := make([]byte, octets)
	_, _ = rand.Read(modulus) // crypto/rand does not fail
	modulus[0] |= 0x80
	modulus[octets-1] |= 1
	key, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 1<<31 - 1})
	if err != nil {
		t.Fatal(err)
	}
	h.txt["k._domainkey.sender.example"] = []string{"v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(key)}
	mail := reportMail("1")
	_, body, _ := strings.Cut(mail, "\r\n\r\n")
	sum := sha256.Sum256([]byte(body))
	signature := base64.StdEncoding.EncodeToString(make([]byte, octets))
	var folded strings.Builder
	for ; len(signature) > 900; signature = signature[900:] {
		folded.WriteString("\r\n " + signature[:900])
	}
	begun := time.Now()
	h.take(t, "q1", "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=sender.example; s=k; h=from;\r\n bh="+
		base64.StdEncoding.EncodeToString(sum[:])+";\r\n b="+folded.String()+"\r\n "+signature+"\r\n"+mail)
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	if list := h.records(t); len(list) != 1 || list[0].SignedBy != "" {
		t.Errorf("%+v", list)
	}
}
