//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// verdict counts the ends of the messages to one service.
type verdict struct {
	service                              *service
	messages, arrived, bounced, deferred int
	cut                                  int // recipients whose attempt the kill cut off
	again                                int // came twice because a host was killed before it confirmed
	faults                               []string
}

func (v *verdict) fault(format string, args ...any) {
	v.faults = append(v.faults, fmt.Sprintf(format, args...))
}

func (v *verdict) line() string {
	h := v.service.host
	word := "ok"
	if len(v.faults) > 0 {
		word = fmt.Sprintf("%d FAULTS", len(v.faults))
	}
	return fmt.Sprintf("%s %s at %s (%s): %d messages: %d recipients arrived, %d refused and told, %d deferred first, %d cut off by the kill, %d of them twice: %s",
		h.Name, h.version, v.service.Domain, v.service.extensions(), v.messages, v.arrived, v.bounced, v.deferred, v.cut, v.again, word)
}

// relayLog has the facts of the relay's log that count, by recipient.
type relayLog struct {
	// cut are attempts that failed when their host was killed, unknown those of them
	// where the host had the whole message and did not confirm it.
	cut, unknown map[string]bool
	deferred     map[string]bool   // an attempt was deferred
	last         map[string]string // the result of the last attempt
}

// readLog reads the log of the relay. What a kill breaks is logged at once.
func (w *world) readLog(p *plan) (*relayLog, error) {
	const (
		atOnce = 5 * time.Second
		// The relay's words for a connection that failed or broke, and for content
		// that was sent whole and not confirmed.
		connection, unconfirmed = "connect", "unknown-result"
	)
	f, err := os.Open(w.path("relay.log"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &relayLog{cut: make(map[string]bool), unknown: make(map[string]bool), deferred: make(map[string]bool), last: make(map[string]string)}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var line struct {
			Time                     time.Time
			Msg, Verdict, Why, Error string
			To                       []string
		}
		if json.Unmarshal(s.Bytes(), &line) != nil || line.Msg != "attempt" {
			continue
		}
		for _, to := range line.To {
			l.last[to] = line.Verdict + ": " + line.Error
			m := p.byAddress[to]
			if m == nil || line.Verdict != "deferred" {
				continue
			}
			l.deferred[to] = true
			killed := m.service.host.killed
			if !killed.IsZero() && line.Time.After(killed) && line.Time.Before(killed.Add(atOnce)) && (line.Why == connection || line.Why == unconfirmed) {
				l.cut[to] = true
				l.unknown[to] = l.unknown[to] || line.Why == unconfirmed
			}
		}
	}
	return l, s.Err()
}

// judge compares the end of each recipient with the expected one.
func (w *world) judge(s *service, messages []*message, log *relayLog) *verdict {
	v := &verdict{service: s, messages: len(messages)}
	for _, m := range messages {
		for _, r := range m.recipients {
			told := w.told.byRecipient[r.address]
			w.judgeArrivals(v, m, r, told, log)
			w.judgeNotices(v, m, r, told)
			if !r.defers {
				continue
			}
			_, err := os.Stat(filepath.Join(s.host.root, "judge", "deferred", r.address))
			if s.host.next != nil && !log.deferred[r.address] || s.host.next == nil && err != nil {
				v.fault("not deferred: the host took <%s> (%s) at once", r.address, m.kind)
			}
			v.deferred++
		}
	}
	return v
}

func (w *world) judgeArrivals(v *verdict, m *message, r recipient, told []notice, log *relayLog) {
	different := make(map[[32]byte]bool)
	for _, a := range w.seen.byRecipient[r.address] {
		if !different[a.hash] && a.from != m.from {
			v.fault("wrong sender: %s (%s) came to <%s> from <%s>, not <%s>", m.token, m.kind, r.address, a.from, m.from)
		}
		if !different[a.hash] {
			v.faults = append(v.faults, a.faults...)
		}
		different[a.hash] = true
	}
	if log.cut[r.address] {
		v.cut++
	}
	switch n := len(different); {
	case n == 0 && r.end == arrives && len(told) > 0:
		v.fault("bounced: %s (%s) to <%s>: %.300s", m.token, m.kind, r.address, told[0].diagnostic)
	case n == 0 && r.end == arrives:
		v.fault("lost: %s (%s) has not arrived at <%s>; the last attempt: %.300s", m.token, m.kind, r.address, log.last[r.address])
	case n > 0 && r.end == bounces:
		v.fault("delivered: %s (%s) to <%s>, which must be refused", m.token, m.kind, r.address)
	case n > 1 && log.unknown[r.address]:
		v.again++
		v.arrived++
	case n > 1:
		v.fault("twice: %s (%s) came %d times to <%s>", m.token, m.kind, n, r.address)
	case n == 1:
		v.arrived++
	}
}

func (w *world) judgeNotices(v *verdict, m *message, r recipient, told []notice) {
	want := 0
	if r.end == bounces && m.from != "" {
		want = 1
	}
	if r.end == bounces && len(told) == want {
		v.bounced++
	}
	switch {
	case len(told) < want:
		v.fault("not told: <%s> has no notice of <%s> (%s)", m.from, r.address, m.kind)
	case len(told) > want && r.end == bounces:
		v.fault("told too often: <%s> has %d notices of <%s> (%s): %.300s", m.from, len(told), r.address, m.kind, told[0].diagnostic)
	case len(told) > 0 && r.end == arrives && len(w.seen.byRecipient[r.address]) > 0:
		v.fault("told wrongly: <%s> was told of <%s> (%s), where the message arrived: %.300s", m.from, r.address, m.kind, told[0].diagnostic)
	}
	for _, n := range told {
		if n.to != m.from {
			v.fault("told another: the notice of <%s> (%s) went to <%s>, not to <%s>", r.address, m.kind, n.to, m.from)
		}
		if n.action != "failed" {
			v.fault("told wrongly: the notice of <%s> (%s) says %q", r.address, m.kind, n.action)
		}
	}
}
