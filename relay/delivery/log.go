package delivery

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/stsrelay/stsrelay/queue"
)

// seen is a host that an attempt has contacted, and where.
type seen struct {
	host string
	addr netip.Addr
}

// ip is where a host was contacted last, "" where it was not.
func (a *attempt) ip(host string) string {
	for i := len(a.seen) - 1; i >= 0; i-- {
		if a.seen[i].host == host {
			return a.seen[i].addr.String()
		}
	}
	return ""
}

// logResults writes one line for all recipients that ended alike.
func (a *attempt) logResults() {
	env := &a.w.Envelope
	type line struct{ state, reply, reason, text, host string }
	lines := make(map[line][]string)
	var order []line
	for i, r := range a.results {
		if r.State == "" { // it was not tried
			continue
		}
		l := line{string(r.State), r.LastReply, r.ReasonCode, r.LastError, r.Host}
		if lines[l] == nil {
			order = append(order, l)
		}
		lines[l] = append(lines[l], env.Recipients[i].Address)
	}
	policy, mode := "none", ""
	if a.policy.Policy != nil {
		policy, mode = a.policy.ID, string(a.policy.Policy.Mode)
	}
	for _, l := range order {
		verdict := verdictOf(queue.State(l.state))
		a.d.told(verdict, l.reason, len(lines[l]))
		a.d.log.LogAttrs(context.Background(), slog.LevelInfo, "attempt",
			slog.String("queue_id", env.ID.String()), slog.String("message_id", env.MessageID), slog.String("from", env.From), slog.Any("to", lines[l]),
			slog.String("domain", a.w.Domain), slog.String("host", l.host), slog.String("ip", a.ip(l.host)), slog.String("tls", a.tls),
			slog.String("policy", policy), slog.String("mode", mode), slog.String("verdict", verdict),
			slog.String("why", l.reason), slog.String("reply", l.reply), slog.String("error", l.text),
			slog.Int("attempt", a.w.Attempts+1), slog.Float64("took_seconds", seconds(a.d.now().Sub(a.start))), slog.Float64("age_seconds", seconds(a.w.Age)))
	}
}

// verdictOf is the word for what an attempt made of a recipient.
func verdictOf(s queue.State) string {
	if s == queue.Queued {
		return "deferred"
	}
	return string(s)
}

// tell tells what the attempt came to as a whole.
func (a *attempt) tell() {
	t := Attempt{Protection: a.protection}
	for _, r := range a.results {
		if r.State == "" {
			continue
		}
		switch v := verdictOf(r.State); t.Verdict {
		case "", v:
			t.Verdict = v
		default:
			t.Verdict = "mixed"
		}
		if r.State == queue.Delivered {
			t.Delivered = a.w.Age + a.d.now().Sub(a.start)
		}
	}
	a.d.ended(t)
}

// seconds is a time for the log, to 10 µs.
func seconds(d time.Duration) float64 { return d.Round(10 * time.Microsecond).Seconds() }
