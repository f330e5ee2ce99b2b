package ingress

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// selfSignedLife is how long a self-made certificate is valid. Clients that
// take one at all remember it, so it is not changed without need.
const selfSignedLife = 10 * 365 * 24 * time.Hour

// SelfSigned returns certificates for hostname that this relay has signed
// itself, RSA (old devices know nothing else) and ECDSA. They are made once and
// kept in dir; another hostname makes new ones, and so does a file without a certificate,
// which a power cut may leave.
func SelfSigned(hostname, dir string) ([]tls.Certificate, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var out []tls.Certificate
	for _, kind := range []struct {
		name string
		key  func() (crypto.Signer, error)
	}{
		{"ecdsa", func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }},
		{"rsa", func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }},
	} {
		file := filepath.Join(dir, "self-signed-"+kind.name+".pem")
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		cert, err := tls.X509KeyPair(data, data)
		if err != nil || cert.Leaf.VerifyHostname(hostname) != nil || time.Now().After(cert.Leaf.NotAfter) {
			if err = makeSelfSigned(file, hostname, kind.key); err == nil {
				cert, err = tls.LoadX509KeyPair(file, file)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, cert)
	}
	return out, nil
}

func makeSelfSigned(file, hostname string, makeKey func() (crypto.Signer, error)) error {
	key, err := makeKey()
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: hostname},
		DNSNames:              []string{hostname},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(selfSignedLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	data = append(data, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	temp, err := os.OpenFile(file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}
