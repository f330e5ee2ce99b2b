package delivery

import (
	"fmt"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// attemptError is why an attempt, or a part of it, did not lead to a delivery.
type attemptError struct {
	permanent  bool
	reason     failure.Reason
	status     string // the end of its enhanced status code (RFC 3463); "" for that of reason
	text       string // a sentence for people
	reply      string // the host's SMTP reply, "" where this relay decided
	host       string
	policy     bool          // a published policy held the message
	domainWide bool          // no host of the domain could be used, whatever the message
	elsewhere  bool          // another host of the domain may take the message
	overload   bool          // the host may have had too much of us
	retryAfter time.Duration // until the next attempt; 0: as the schedule says
	// busy, if not zero, is for how long the message waits because too many wait for the
	// host already.
	busy time.Duration
}

// maxText bounds the text of a failure, in octets. The text is stored with each
// recipient, and a stranger decides how long it would be: a host may have thousands of
// addresses.
const maxText = 1500

func (f *attemptError) Error() string {
	text := f.text
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	if f.enhanced() == "" || f.reply != "" && f.status == noStatus {
		return text // a host that gives no code gets none
	}
	return f.enhanced() + " " + text
}

// enhanced returns the enhanced status code (RFC 3463).
func (f *attemptError) enhanced() string { return f.reason.Status(f.permanent, f.status) }

func (f *attemptError) queueReason() queue.Reason {
	return queue.Reason{Code: f.reason.Code(), Status: f.enhanced(), Text: f.Error()}
}

// policyFailure is the failure of a host that does not meet its requirement.
func policyFailure(s *security.Shortfall, req *security.Requirement) *attemptError {
	f := &attemptError{reason: s.Reason(), host: req.Host, policy: true, domainWide: true}
	switch s.Source {
	case security.MTASTS:
		f.text = fmt.Sprintf("%s asks for verified TLS (MTA-STS, mode %s), and %s; nothing was sent", req.Domain, req.Policy.Mode, s.Text)
	case security.DANE:
		f.text = fmt.Sprintf("%s asks for verified TLS (DANE), and %s; nothing was sent", req.Host, s.Text)
	case security.Plaintext:
		f.text = fmt.Sprintf("this relay sends nothing in clear (%s), and %s; nothing was sent", s.Source, s.Text)
	case security.Rule:
		f.text = fmt.Sprintf("this relay asks for TLS to %s, and %s; nothing was sent", req.Domain, s.Text)
	default:
		f.text = fmt.Sprintf("the sender asks for TLS all the way (REQUIRETLS), and %s; nothing was sent", s.Text)
	}
	if req.RequireTLS {
		// RFC 8689, 4.2.1: not to be waited for. "REQUIRETLS support required",
		// or "encryption needed".
		f.permanent, f.domainWide, f.status = true, false, "7.10"
		if s.Code == security.CodeNoRequireTLS {
			f.status = "7.30"
		}
	}
	f.text += " (" + string(s.Type) + ")"
	return f
}

// noStatus is the end of the status code of a reply that has none (RFC 3463, 3.1: other, or
// undefined).
const noStatus = "0.0"

// replyFailure is the failure of a reply that refuses.
func replyFailure(reason failure.Reason, host string, r smtpclient.Reply) *attemptError {
	f := &attemptError{reason: reason, host: host, reply: r.String(), permanent: r.Permanent(), status: noStatus}
	if _, detail, ok := strings.Cut(r.Enhanced, "."); ok {
		f.status = detail
	}
	f.text = fmt.Sprintf("%s said: %s", host, r)
	return f
}

// refusesUs reports whether the host's reply may be about the relay's address, not
// about the message: another address of this relay may be welcome (RFC 3463, X.7).
func (f *attemptError) refusesUs() bool {
	return f.permanent && f.reply != "" && strings.HasPrefix(f.status, "7.")
}

// state turns a failure into the state of a recipient.
func (f *attemptError) state(old queue.RecipientState, tls string) queue.RecipientState {
	s := queue.RecipientState{State: queue.Queued, LastReply: f.reply, LastError: f.Error(), ReasonCode: f.reason.Code(), Status: f.enhanced(), TLS: tls, Host: f.host, Delayed: old.Delayed}
	if f.permanent {
		s.State = queue.Bounced
	}
	if f.reply == "" {
		s.LastReply, s.Earlier = old.LastReply, old.LastReply != ""
	}
	return s
}
