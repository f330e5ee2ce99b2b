//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The ends that a recipient can have.
const (
	arrives = "arrives"
	bounces = "bounces"
)

// recipient is an address, and what must become of the message there. The first
// word of its local part tells a host what to do with it: "good" is taken, there
// is no "nobody", "later" is deferred at RCPT the first time, "data" at DATA or
// behind the content.
type recipient struct {
	address string
	end     string
	defers  bool
}

// message is a message with the ends that its recipients must have.
type message struct {
	token      string // in its Message-ID, and in each address
	kind       string
	service    *service
	from       string
	recipients []recipient
	content    []byte
	eightBit   bool
	utf8       bool
	rewritten  bool // the relay may have to encode it anew
}

type plan struct {
	messages  []*message
	byToken   map[string]*message
	byAddress map[string]*message
}

// kinds are the kinds of messages, with their numbers of 200.
var kinds = []struct {
	name  string
	share int
	make  func(m *message)
}{
	{"good", 48, func(m *message) { m.to("good") }},
	{"refused", 34, func(m *message) { m.to("nobody") }},
	{"deferred", 20, func(m *message) { m.to("later") }},
	{"deferred at DATA", 10, func(m *message) {
		if slices.Contains(m.service.Defers, "data") {
			m.to("data")
		} else {
			m.to("later")
		}
	}},
	{"mixed", 24, func(m *message) { m.to("good", "nobody", "later", "good") }},
	{"8-bit", 18, func(m *message) {
		m.to("good")
		m.eightBit = true
		m.write("8bit", "Grüße aus Zürich: ß, Ω, ☃.\r\n.\r\nDas Ende naht — wirklich.\r\n")
	}},
	{"SMTPUTF8", 10, func(m *message) {
		m.from = "zoë" + m.from
		m.utf8, m.eightBit = true, true
		m.to("good")
		m.write("8bit", "Der Absender heißt Zoë.\r\n")
	}},
	{"long lines", 14, func(m *message) {
		m.to("good")
		m.rewritten = true
		m.write("7bit", "A short line.\r\n"+strings.Repeat("0123456789 long ", 75+rand.IntN(250))+"\r\n."+strings.Repeat("x", 3000)+"\r\n..\r\n")
	}},
	{"lone dots", 20, func(m *message) {
		m.to("good")
		m.write("7bit", ".\r\n..\r\n.\r\n\r\n.leading\r\n...three\r\nMAIL FROM:<a@b.example>\r\n.\r\n\r\n.\r\n")
	}},
	{"20 MiB", 1, func(m *message) {
		m.to("good")
		m.write("7bit", strings.Repeat(strings.Repeat("twenty mebibytes ", 4)+"\r\n", 20<<20/70))
	}},
	{"too large", 1, func(m *message) {
		m.to("nobody") // the reason is another one
		m.write("7bit", strings.Repeat(strings.Repeat("too large a text ", 4)+"\r\n", 24<<20/70))
	}},
}

// senders are the envelope senders; the null sender gets no notice.
var senders = []string{"anna.%s@", "bert+tag.%s@", "list-%s-bounces+kurt=other.example@", "SRS0=HHH=TT=other.example=carla.%s@", "mary-jane_%s@", ""}

func newPlan(services []*service, n int) *plan {
	p := &plan{byToken: make(map[string]*message), byAddress: make(map[string]*message)}
	for _, s := range services {
		for _, k := range kinds {
			for range max(1, k.share*n/200) {
				p.add(s, k.name, k.make)
			}
		}
	}
	// The same order in every run, with all kinds and hosts between each other.
	rand.New(rand.NewPCG(13, 21)).Shuffle(len(p.messages), func(i, j int) {
		p.messages[i], p.messages[j] = p.messages[j], p.messages[i]
	})
	return p
}

func (p *plan) add(s *service, kind string, fill func(*message)) {
	label, _, _ := strings.Cut(s.Domain, ".")
	n := len(p.messages)
	m := &message{token: fmt.Sprintf("%s-%04d", label, n), kind: kind, service: s}
	// A sender gets 20 notices an hour; all others are in one digest.
	if sender := senders[n%len(senders)]; sender != "" && kind != "SMTPUTF8" {
		m.from = fmt.Sprintf(sender, label) + senderDomain
	} else if kind == "SMTPUTF8" {
		m.from = "." + label + "@" + senderDomain
	}
	fill(m)
	if m.content == nil {
		m.write("7bit", "A text.\r\n")
	}
	if m.utf8 && !s.ext["SMTPUTF8"] || kind == "too large" {
		for i := range m.recipients {
			m.recipients[i].end = bounces
		}
	}
	if m.eightBit && !s.ext["8BITMIME"] {
		m.rewritten = true
	}
	p.messages = append(p.messages, m)
	p.byToken[m.token] = m
	for _, r := range m.recipients {
		p.byAddress[r.address] = m
	}
}

func (m *message) to(words ...string) {
	for i, w := range words {
		r := recipient{address: fmt.Sprintf("%s-%s-%d@%s", w, m.token, i, m.service.Domain), end: arrives}
		if w == "nobody" {
			r.end = bounces
		}
		r.defers = (w == "later" || w == "data") && slices.Contains(m.service.Defers, strings.Replace(w, "later", "rcpt", 1))
		m.recipients = append(m.recipients, r)
	}
}

// write makes the content.
func (m *message) write(encoding, text string) {
	author := "Anna <anna@" + senderDomain + ">"
	if m.utf8 {
		author = "Zoë <" + m.from + ">"
	}
	charset := "us-ascii"
	if m.eightBit {
		charset = "utf-8"
	}
	var to []string
	for _, r := range m.recipients {
		to = append(to, r.address)
	}
	m.content = fmt.Appendf(nil, "From: %s\r\nTo: %s\r\nSubject: %s, %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n%sThis was %s.\r\n",
		author, strings.Join(to, ",\r\n "), m.kind, m.token, time.Now().Format(time.RFC1123Z), m.token, senderDomain, charset, encoding, text, m.token)
}

func (p *plan) of(s *service) (list []*message) {
	for _, m := range p.messages {
		if m.service == s {
			list = append(list, m)
		}
	}
	return list
}
