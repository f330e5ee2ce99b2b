package outbound

import (
	"crypto/tls"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/relay/security"
)

// tlsConfig is the configuration of a session for req. security.Evidence judges the
// certificate after the handshake, since a bad one is evidence too. small keeps the
// ClientHello within one TCP segment. RC4 is offered then too where the session would be
// in clear otherwise, as the last resort (RFC 7435).
func tlsConfig(req *security.Requirement, legacy, small bool) *tls.Config {
	c := &tls.Config{
		ServerName:         req.Host,
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       clienthello.Suites(),
		InsecureSkipVerify: true, //nolint:gosec // verified by security.Evidence.Observe
		// A message is waited for as a whole: small records would only cost system calls.
		DynamicRecordSizingDisabled: true,
	}
	if req.TLSA != nil && len(req.TLSA.Usable) > 0 {
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
