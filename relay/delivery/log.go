package delivery

import (
	"context"
	"log/slog"
	"time"

	"github.com/stsrelay/stsrelay/relay/security"
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
			f := e.facts(r.Host)
			log.LogAttrs(context.Background(), slog.LevelInfo, "attempt",
				slog.String("queue_id", e.QueueID), slog.String("message_id", env.MessageID), slog.String("from", env.From), slog.Any("to", r.To),
				slog.String("domain", e.Claim.Domain), slog.String("host", r.Host), slog.String("ip", r.IP), slog.String("tls", e.TLS),
				slog.String("protection", string(f.protection)), slog.String("cipher", f.cipher), slog.String("group", f.group), slog.String("certificate", f.certificate),
				slog.String("policy", policy), slog.String("mode", mode), slog.String("verdict", r.Verdict),
				slog.String("why", r.Code), slog.String("reply", r.Reply), slog.String("error", r.Text),
				slog.Int("attempt", e.Claim.Attempts+1), slog.Float64("took_seconds", seconds(e.Took)), slog.Float64("age_seconds", seconds(e.Claim.Age)))
		}
	}
}

// facts are what a session proved: the protection in one word, and the cipher suite, the group
// and the certificate (SHA-256 of the whole of it); "" for what there was none of.
type facts struct {
	protection                 security.Protection
	cipher, group, certificate string
}

// facts returns those of the session with a host.
func (e *Event) facts(host string) facts {
	f := facts{protection: e.Protection}
	if s := e.Session(host); s != nil {
		if s != &e.Sessions[len(e.Sessions)-1] {
			_, f.protection = s.Requirement.Describe(s.Evidence)
		}
		if s.Evidence.StartTLS == security.Established {
			f.cipher, f.certificate = s.Evidence.SuiteName(), s.Evidence.Fingerprint
			if s.Evidence.Group != 0 {
				f.group = s.Evidence.Group.String()
			}
		}
	}
	return f
}

// seconds is a time for the log, to 10 µs.
func seconds(d time.Duration) float64 { return d.Round(10 * time.Microsecond).Seconds() }
