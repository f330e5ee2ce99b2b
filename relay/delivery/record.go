package delivery

import (
	"net"
	"slices"

	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// record collects the sessions of an attempt for its Event.
type record struct {
	sessions []Session
	contacts []contact // in their order
	// memory of the slices above: most attempts use one session
	firstSession [1]Session
	firstContact [1]contact
	// tls is what the last session proved, in words, protection the same in one word;
	// "" where there was none.
	tls        string
	protection security.Protection
}

// contacted records an address that the attempt has contacted.
func (r *record) contacted(host, ip string) {
	if r.contacts == nil {
		r.contacts = r.firstContact[:0]
	}
	r.contacts = append(r.contacts, contact{host, ip})
}

// proved records the evidence of the session in use.
func (r *record) proved(req *security.Requirement, e *security.Evidence) {
	words, protection := req.Describe(e)
	r.tls, r.protection = words.String(), protection
}

// session records a session that is used for req, once, and returns its entry.
func (r *record) session(req *security.Requirement, s *session) *Session {
	for i := range r.sessions {
		if known := &r.sessions[i]; known.Evidence == &s.evidence {
			return known
		}
	}
	if r.sessions == nil {
		r.sessions = r.firstSession[:0]
	}
	r.sessions = append(r.sessions, Session{
		Requirement: req, Evidence: &s.evidence,
		LocalIP: s.localIP, RemoteIP: s.remoteIP, Helo: s.client.PeerName(),
	})
	return &r.sessions[len(r.sessions)-1]
}

// judged records what TLS reports count of a session. policy is why the policy could not
// be fetched, nil where that did not fail.
func (r *record) judged(req *security.Requirement, s *session, verdicts []security.Verdict, policy *sts.FetchError) {
	known := r.session(req, s)
	known.Requirement, known.Verdicts, known.PolicyFailure = req, verdicts, policy
}

// skipped records a host that was passed over.
func (r *record) skipped(req *security.Requirement, s *security.Shortfall) {
	r.sessions = append(r.sessions, Session{Requirement: req, Verdicts: []security.Verdict{{Source: s.Source, Binding: true, Shortfall: s}}})
}

// made returns the sessions without the hosts that were passed over: the next attempt
// passes them over again.
func (r *record) made() []Session {
	return slices.DeleteFunc(r.sessions, func(s Session) bool { return s.Evidence == nil })
}

func ip(addr net.Addr) string {
	if t, ok := addr.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().String()
	}
	return ""
}
