package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// verdict is what became of the messages to one service.
type verdict struct {
	service                              *service
	messages, arrived, bounced, deferred int
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
	return fmt.Sprintf("%s %s at %s (%s): %d messages: %d recipients arrived, %d refused and told, %d deferred first, %d twice after a kill, %d kills: %s",
		h.Name, h.version, v.service.Domain, v.service.extensions(), v.messages, v.arrived, v.bounced, v.deferred, v.again, h.kills, word)
}

// relayLog is what matters of the relay's log, by recipient.
type relayLog struct {
	unknown  map[string]bool   // the host did not confirm what it had whole
	deferred map[string]bool   // an attempt was deferred
	last     map[string]string // what the last attempt came to
}

func (w *world) readLog() (*relayLog, error) {
	f, err := os.Open(w.path("relay.log"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &relayLog{unknown: make(map[string]bool), deferred: make(map[string]bool), last: make(map[string]string)}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var line struct {
			Msg, Verdict, Why, Error string
			To                       []string
		}
		if json.Unmarshal(s.Bytes(), &line) != nil || line.Msg != "attempt" {
			continue
		}
		for _, to := range line.To {
			l.unknown[to] = l.unknown[to] || line.Why == "unknown-result"
			l.deferred[to] = l.deferred[to] || line.Verdict == "deferred"
			l.last[to] = line.Verdict + ": " + line.Error
		}
	}
	return l, s.Err()
}

// judge compares the end of each recipient with what it must be.
func (w *world) judge(s *service, messages []*message, notices map[string][]notice, log *relayLog) *verdict {
	v := &verdict{service: s, messages: len(messages)}
	for _, m := range messages {
		for _, r := range m.recipients {
			w.judgeArrivals(v, m, r, notices[r.address], log)
			w.judgeNotices(v, m, r, notices[r.address])
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
	switch n := len(different); {
	case n == 0 && r.end == arrives && len(told) > 0:
		v.fault("bounced: %s (%s) to <%s>: %.300s", m.token, m.kind, r.address, told[0].diagnostic)
	case n == 0 && r.end == arrives:
		v.fault("lost: %s (%s) has not arrived at <%s>; the last attempt: %.300s", m.token, m.kind, r.address, log.last[r.address])
	case n > 0 && r.end == bounces:
		v.fault("delivered: %s (%s) to <%s>, which must be refused", m.token, m.kind, r.address)
	case n > 1 && log.unknown[r.address] && v.service.host.kills > 0:
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

// await waits until every recipient has an end and the queue is empty, and kills
// the hosts in the middle. It gives up where nothing happens for a minute.
func (w *world) await(ctx context.Context, p *plan) error {
	const patience = time.Minute
	open, since := -1, time.Now()
	begun := time.Now()
	for {
		for _, h := range w.hosts {
			if err := w.readArrivals(h, p); err != nil {
				return err
			}
			if w.restart && h.kills == 0 && (w.halfWay(h, p) || time.Since(begun) > 30*time.Second) {
				h.stop()
				h.kills++
				if err := h.start(ctx); err != nil {
					return fmt.Errorf("%s does not start a second time: %w\n    %s", h.Name, err, h.lastWords())
				}
			}
		}
		n := w.open(p)
		if n == 0 && w.queueEmpty(ctx) {
			break
		}
		if n != open {
			open, since = n, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("%d recipients have no end, and nothing happens any more", n)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d recipients have no end: %w", n, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
	// What comes twice comes a little later.
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	var errs []error
	for _, h := range w.hosts {
		errs = append(errs, w.readArrivals(h, p))
	}
	return errors.Join(errs...)
}

// halfWay reports whether a third of what a host is to take has arrived: by then
// a half is on its way.
func (w *world) halfWay(h *host, p *plan) bool {
	all, here := 0, 0
	for _, s := range h.Services {
		for _, m := range p.of(s) {
			for _, r := range m.recipients {
				if r.end == arrives {
					all++
				}
				if len(w.seen.byRecipient[r.address]) > 0 {
					here++
				}
			}
		}
	}
	return here*3 >= all
}

// open is the number of recipients that have no end yet.
func (w *world) open(p *plan) (n int) {
	notices := readNotices(w.sink.Messages())
	for _, m := range p.messages {
		for _, r := range m.recipients {
			told := len(notices[r.address]) > 0
			if len(w.seen.byRecipient[r.address]) == 0 && !told && (r.end == arrives || m.from != "") {
				n++
			}
		}
	}
	return n
}

func (w *world) queueEmpty(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, w.binary, "queue", "list", "--json", "--config", w.path("stsrelay.toml")).Output()
	if err != nil {
		return false
	}
	var list []json.RawMessage
	return json.Unmarshal(out, &list) == nil && len(list) == 0
}
