package delivery

import (
	"context"
	"log/slog"
	"time"
)

// LogEvents returns a reader of events that writes a line for each result: recipients
// with equal results share one.
func LogEvents(log *slog.Logger) func(*Event) {
	return func(e *Event) {
		if e.Kind != EventAttempt {
			return
		}
		env := &e.Claim.Envelope
		policy, mode := "none", ""
		if e.Policy.Policy != nil {
			policy, mode = e.Policy.ID, string(e.Policy.Policy.Mode)
		}
		for _, r := range e.Results() {
			log.LogAttrs(context.Background(), slog.LevelInfo, "attempt",
				slog.String("queue_id", env.ID.String()), slog.String("message_id", env.MessageID), slog.String("from", env.From), slog.Any("to", r.To),
				slog.String("domain", e.Claim.Domain), slog.String("host", r.Host), slog.String("ip", r.IP), slog.String("tls", e.TLS),
				slog.String("policy", policy), slog.String("mode", mode), slog.String("verdict", r.Verdict),
				slog.String("why", r.Code), slog.String("reply", r.Reply), slog.String("error", r.Text),
				slog.Int("attempt", e.Claim.Attempts+1), slog.Float64("took_seconds", seconds(e.Took)), slog.Float64("age_seconds", seconds(e.Claim.Age)))
		}
	}
}

// seconds is a time for the log, to 10 µs.
func seconds(d time.Duration) float64 { return d.Round(10 * time.Microsecond).Seconds() }
