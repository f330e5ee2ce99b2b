package trace

import (
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Waiting is what an attempt under way waits for.
type Waiting struct {
	QueueID string
	Domain  string // of the recipients
	// For is what it waits for, "the greeting of mx1.example"; no text for nothing that
	// takes long.
	For   phrase.Phrase
	Since time.Time
	// Sessions is how many sessions with the host are open or being opened, and Limit how
	// many may be; both are 0 where it does not wait for a host.
	Sessions, Limit int
}

// wait is what an attempt waits for now. The texts are put together only for those who ask.
type wait struct {
	what     phrase.Phrase // "the greeting of"; no text where a reply is awaited
	command  string        // whose reply is awaited, "" for none
	name     string        // of the host or domain
	since    time.Time
	sessions func() (open, limit int) // with the host; nil: it waits for no host
	unread   []string                 // the commands that the host has not answered, the first one first
}

// content stands for the content of a message among the commands.
const content = "the content"

// What an attempt can wait for, of a host or a domain.
var (
	Addresses    = phrase.New("the addresses of")
	Connection   = phrase.New("a connection to")
	FreeSession  = phrase.New("a free session with")
	Greeting     = phrase.New("the greeting of")
	MailHosts    = phrase.New("the mail hosts of")
	MTASTSPolicy = phrase.New("the MTA-STS policy of")
	TLSARecords  = phrase.New("the TLSA records of")
	handshake    = phrase.New("the TLS handshake with")
	sending      = phrase.New("the content to go to")
)

// WaitsFor takes note that the attempt waits for something of a host or a domain. What is sent
// and received after it says by itself what is awaited.
func (a *Attempt) WaitsFor(what phrase.Phrase, name string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wait = wait{what: what, name: name, since: time.Now(), sessions: a.wait.sessions, unread: a.wait.unread[:0]}
}

// WaitsAt takes note that the attempt is about a host from now on. sessions returns how many
// sessions with it are open or being opened, and how many may be.
func (a *Attempt) WaitsAt(sessions func() (open, limit int)) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wait.sessions = sessions
}

// sent takes note of a line to the host.
func (w *wait) sent(host, line string, now time.Time) {
	command, _, _ := strings.Cut(line, " ")
	switch {
	case strings.HasPrefix(line, "("): // the content, which BDAT has announced or DATA has not
		if n := len(w.unread); n > 0 && w.unread[n-1] == "BDAT" {
			return
		}
		command = content
	case command == "***":
		command = "AUTH"
	}
	if w.unread = append(w.unread, command); len(w.unread) == 1 {
		w.what, w.command, w.name, w.since = phrase.Phrase{}, command, host, now
	}
}

// received takes note of a line from the host.
func (w *wait) received(host, line string, now time.Time) {
	if len(line) < 4 || line[3] != ' ' || line[0] == '(' { // it goes on, or there was no reply
		return
	}
	command := ""
	if len(w.unread) > 0 {
		command = w.unread[0]
		w.unread = append(w.unread[:0], w.unread[1:]...)
	}
	w.what, w.command, w.name, w.since = phrase.Phrase{}, "", host, now
	switch {
	case len(w.unread) > 0:
		w.command = w.unread[0]
	case command == "STARTTLS" && line[0] == '2':
		w.what = handshake
	case command == "DATA" && line[0] == '3':
		w.what = sending
	}
}

// phrase returns what is awaited, no text for nothing.
func (w *wait) phrase() phrase.Phrase {
	switch {
	case w.command == content:
		return phrase.New("the reply to the content from %s", w.name)
	case w.command != "":
		return phrase.New("the reply to %s from %s", w.command, w.name)
	case w.what.IsZero():
		return w.what
	}
	return phrase.New("%s %s", w.what, w.name)
}

// UnderWay returns what the attempts under way wait for, in no order.
func (t *Tracer) UnderWay() []Waiting {
	t.mu.Lock()
	attempts := make([]*Attempt, 0, len(t.underWay))
	for a := range t.underWay {
		attempts = append(attempts, a)
	}
	t.mu.Unlock()
	out := make([]Waiting, len(attempts))
	for i, a := range attempts {
		a.mu.Lock()
		out[i] = Waiting{QueueID: a.unit.id, Domain: a.unit.domain, For: a.wait.phrase(), Since: a.wait.since}
		sessions := a.wait.sessions
		a.mu.Unlock()
		if sessions != nil && !out[i].For.IsZero() {
			out[i].Sessions, out[i].Limit = sessions()
		}
	}
	return out
}
