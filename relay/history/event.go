package history

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/security"
)

// AddEvent adds the results of an attempt: one record for all recipients with the same
// result. It is called for each event after its commit.
func (l *Log) AddEvent(e *delivery.Event) {
	if e.Kind != delivery.EventAttempt || l.settings.Load().Keep == 0 {
		return
	}
	env := &e.Claim.Envelope
	for _, r := range e.Results() {
		l.Add(Record{
			At: e.At, Kind: Attempt, QueueID: e.QueueID, MessageID: env.MessageID, From: env.From, To: r.To, Domain: e.Claim.Domain, Size: env.Size,
			Verdict: r.Verdict, Why: r.Code, Host: r.Host, IP: r.IP, Reply: r.Reply, Status: r.Status, Error: r.Text,
			Number: e.Claim.Attempts + 1, Took: e.Took.Round(10 * time.Microsecond).Seconds(), TLS: l.sessionTLS(e, r.Host),
		})
	}
}

// AddAccepted adds a record of an accepted message.
func (l *Log) AddAccepted(env *queue.Envelope) {
	if l.settings.Load().Keep == 0 {
		return
	}
	r := Record{
		At: env.ReceivedAt, Kind: Accepted, QueueID: env.ID.String(), MessageID: env.MessageID, From: env.From, Size: env.Size,
		Client: env.Client, User: env.Auth, ClientTLS: env.TLS, To: make([]string, len(env.Recipients)),
	}
	for i := range env.Recipients {
		r.To[i] = env.Recipients[i].Address
	}
	if l.settings.Load().Subject {
		r.Subject = mailheader.Decoded(env.Subject)
	}
	l.Add(r)
}

// AddAction adds a record of an operator's action on recipients of a message.
func (l *Log) AddAction(a *queue.Action) {
	what := a.What
	if a.Reason != "" {
		what += ": " + a.Reason
	}
	l.Add(Record{Kind: Operator, QueueID: a.Message.ID.String(), MessageID: a.Message.MessageID, From: a.Message.From, To: a.To, What: what, By: a.By})
}

// AddNotice adds a record of a notice about a message.
func (l *Log) AddNotice(about, notice *queue.Envelope) {
	r := Record{Kind: Notice, QueueID: about.ID.String(), MessageID: about.MessageID, Notice: notice.ID.String(), To: make([]string, len(notice.Recipients))}
	for i := range notice.Recipients {
		r.To[i] = notice.Recipients[i].Address
	}
	l.Add(r)
}

// sessionTLS returns what the session with a host proved, nil where there was none.
func (l *Log) sessionTLS(e *delivery.Event, host string) *TLS {
	s := e.Session(host)
	if s == nil {
		return nil
	}
	protection := e.Protection
	if s != &e.Sessions[len(e.Sessions)-1] {
		_, protection = s.Requirement.Describe(s.Evidence)
	}
	out := &TLS{Proof: Proof(protection), OfferedAndBroke: s.Evidence.StartTLS == security.Broken}
	if p := s.Requirement.Policy; p != nil {
		out.PolicyID, out.PolicyMode = e.Policy.ID, string(p.Mode)
		if at := e.Policy.FetchedAt; !at.IsZero() {
			at = at.UTC()
			out.PolicyFetched = &at
		}
	}
	if s.Evidence.StartTLS != security.Established {
		return out
	}
	out.Version, out.Cipher = tls.VersionName(s.Evidence.Version), s.Evidence.SuiteName()
	if s.Evidence.Group != 0 {
		out.Group = s.Evidence.Group.String()
	}
	if out.Proof == ProofDANE {
		if record, err := s.Requirement.MatchTLSA(s.Evidence); err == nil {
			out.TLSA = short(record.String())
		}
	}
	if len(s.Evidence.Chain) > 0 {
		out.Certificate = l.certificates.of(s.Evidence.Chain[0], s.Evidence.Fingerprint)
	}
	return out
}

const (
	// maxCertificates bounds the certificates that are kept in memory.
	maxCertificates = 256
	// maxNames bounds the names of a certificate that are kept, and maxText any other text
	// that a host has made, in octets: there may be 200 KiB, and each delivery has them.
	maxNames = 8 << 10
	maxText  = 8 << 10
)

// certificates are those of hosts that took mail lately, by fingerprint: a session carries
// many messages, and its certificate is described once.
type certificates struct {
	mu    sync.Mutex
	known map[string]*Certificate
}

func (c *certificates) of(leaf *x509.Certificate, fingerprint string) *Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.known[fingerprint]; known != nil {
		return known
	}
	if c.known == nil || len(c.known) >= maxCertificates {
		c.known = make(map[string]*Certificate)
	}
	out := &Certificate{
		SHA256: fingerprint, Subject: short(leaf.Subject.String()), Names: firstNames(leaf.DNSNames), Issuer: short(leaf.Issuer.String()),
		Serial: short(leaf.SerialNumber.Text(16)), NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
	}
	out.encoded = out.encode(nil)
	c.known[fingerprint] = out
	return out
}

// firstNames are the first of a certificate's names, as many as are kept.
func firstNames(names []string) []string {
	left := maxNames
	for i, n := range names {
		if left -= len(n); left < 0 {
			return slices.Clone(names[:i])
		}
	}
	return names
}

func short(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
