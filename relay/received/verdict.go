package received

import (
	"context"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// What reports must show before a domain is ready for mode enforce.
const (
	readyDays     = 14  // with reports
	readySenders  = 2   // organizations
	readySessions = 100 // successful
	// quietDays are the last days, which must have no failure of the domain's own.
	quietDays = 14
	// verdictDays are the last days that count at all.
	verdictDays = 30
)

// Verdict tells whether a domain is ready for mode enforce, from the reports of the last
// 30 days.
type Verdict struct {
	Domain string `json:"domain"`
	// Days counts those with reports, Senders the organizations that sent them.
	Days     int   `json:"days"`
	Senders  int   `json:"senders"`
	Sessions int64 `json:"sessions"` // that went well
	// Own counts the sessions of the last 14 days that failed for what the domain's owner
	// can mend, Foreign all others that failed in the 30 days.
	Own     int64 `json:"own_failures"`
	Foreign int64 `json:"foreign_failures"`
	// LastFailure is the day of the last failure of the domain's own, "" for none.
	LastFailure string `json:"last_failure,omitempty"`
	Ready       bool   `json:"ready"`
	// Missing says what is missing, a phrase each; empty where the domain is ready.
	Missing []phrase.Phrase `json:"missing,omitempty"`
}

// newVerdict is the verdict on a domain without reports.
func newVerdict(domain string) Verdict {
	v := Verdict{Domain: domain}
	v.judge()
	return v
}

// judge fills in Ready and Missing.
func (v *Verdict) judge() {
	v.Missing = nil
	if v.Days < readyDays {
		v.Missing = append(v.Missing, phrase.New("reports of %d more days (%d of %d)", readyDays-v.Days, v.Days, readyDays))
	}
	if v.Senders < readySenders {
		more := phrase.New("1 more sender")
		if missing := readySenders - v.Senders; missing > 1 {
			more = phrase.New("%d more senders", missing)
		}
		v.Missing = append(v.Missing, phrase.New("reports of %s (%d of %d)", more, v.Senders, readySenders))
	}
	if v.Sessions < readySessions {
		v.Missing = append(v.Missing, phrase.New("%d more sessions that went well (%d of %d)", readySessions-v.Sessions, v.Sessions, readySessions))
	}
	if v.Own > 0 {
		failed := phrase.New("1 session failed")
		if v.Own > 1 {
			failed = phrase.New("%d sessions failed", v.Own)
		}
		v.Missing = append(v.Missing, phrase.New("%d days without a failure of the domain's own: %s, the last on %s; stsrelay received summary %s says what to mend", quietDays, failed, v.LastFailure, v.Domain))
	}
	v.Ready = len(v.Missing) == 0
}

// String says the verdict in a sentence.
func (v Verdict) String() string { return v.Phrase().String() }

// Phrase is String for people who read another language.
func (v Verdict) Phrase() phrase.Phrase {
	if v.Ready {
		return phrase.New("%s is ready for enforce: %d days, %d sessions of %d senders in their reports, no failure of its own in the last %d days", v.Domain, v.Days, v.Sessions, v.Senders, quietDays)
	}
	return phrase.New("%s is not ready for enforce; missing: %s", v.Domain, phrase.Join(v.Missing, "; "))
}

// Verdict returns the verdict on one domain.
func (a *Archive) Verdict(ctx context.Context, domain string) (Verdict, error) {
	all, err := a.Verdicts(ctx)
	if v, ok := all[domain]; ok || err != nil {
		return v, err
	}
	return newVerdict(domain), nil
}

// Verdicts returns the verdicts on all domains with reports in the last 30 days.
func (a *Archive) Verdicts(ctx context.Context) (map[string]Verdict, error) {
	quiet := a.Since((quietDays - 1) * 24 * time.Hour)
	domains := make(map[string]*tally)
	err := scan(a, kindSum, a.Since((verdictDays-1)*24*time.Hour), func(key []byte, s *Sum) error {
		s.Day, _ = dayOf(key)
		t := domains[s.Domain]
		if t == nil {
			t = &tally{all: collection{domains: make(map[string]*collected)}, quiet: collection{domains: make(map[string]*collected)}}
			domains[s.Domain] = t
		}
		t.all.of(s.Domain).add(s)
		if s.Day >= quiet {
			t.quiet.of(s.Domain).add(s)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	out := make(map[string]Verdict, len(domains))
	for domain, t := range domains {
		out[domain] = t.verdict(domain)
	}
	return out, nil
}

// tally has what counts for the verdict on a domain.
type tally struct{ all, quiet collection }

func (t *tally) verdict(domain string) Verdict {
	all, quiet := t.all.of(domain).summary(), t.quiet.of(domain).summary()
	v := Verdict{Domain: domain, Days: len(all.Days), Senders: len(all.Senders), Sessions: all.Successful}
	for _, f := range all.Failures {
		if !f.Own {
			v.Foreign += f.Sessions
		} else {
			v.LastFailure = max(v.LastFailure, f.LastDay)
		}
	}
	for _, f := range quiet.Failures {
		// Whether it is the domain's own is judged by all senders of the whole time.
		if slices.ContainsFunc(all.Failures, func(g Failure) bool { return g.Own && g.Type == f.Type && g.MX == f.MX }) {
			v.Own += f.Sessions
		}
	}
	v.judge()
	return v
}
