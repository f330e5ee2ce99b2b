package outbound

import (
	"crypto/tls"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/relay/security"
)

// TLSConfig is that of a session for req. The certificate is judged by
// security.Evidence after the handshake, where a failure is evidence too. small
// keeps the ClientHello within one segment. What would be in clear otherwise may
// be encrypted with RC4 then, the last resort (RFC 7435).
func TLSConfig(req *security.Requirement, legacy, small bool) *tls.Config {
	c := &tls.Config{
		ServerName:         req.Host,
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       clienthello.Suites(),
		InsecureSkipVerify: true, //nolint:gosec // verified by security.Evidence.Observe
	}
	if req.TLSA != nil {
		c.ServerName = req.TLSA.Base // RFC 7672, 8.1
	}
	if legacy {
		c.MinVersion = tls.VersionTLS10
	}
	if !small {
		return c
	}
	if !req.Binding() {
		c.CipherSuites = clienthello.AllSuites()
	}
	return clienthello.Classical(c)
}
