package publish

import (
	"errors"
	"fmt"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/sts"
)

const (
	withdrawnAge = 24 * time.Hour
	// leastAge is the shortest max_age of an enforced policy: some large senders do not
	// keep a policy with a shorter one.
	leastAge = 24 * time.Hour
	// goodAge is the shortest max_age that is not warned of: RFC 8461, 3.2, asks for
	// "weeks or greater".
	goodAge = 14 * 24 * time.Hour
	// MostAge is the longest max_age that can be published. RFC 8461, 3.2, allows six
	// hours more.
	MostAge = 8760 * time.Hour
)

// Problems returns what keeps a policy from being published, by the key of the
// configuration that is wrong: "mode", "max_age" or "mx".
func Problems(p *sts.Policy) map[string]error {
	out := make(map[string]error)
	switch p.Mode {
	case sts.ModeTesting, sts.ModeEnforce, sts.ModeNone:
	default:
		out["mode"] = errors.New(`must be "testing", "enforce" or "none"`)
	}
	switch {
	case p.MaxAge <= 0:
		out["max_age"] = errors.New(`must be longer than nothing, such as "336h"`)
	case p.MaxAge%time.Second != 0:
		out["max_age"] = errors.New("must be whole seconds")
	case p.MaxAge > MostAge:
		out["max_age"] = errors.New("must be at most 8760h, a year (RFC 8461, 3.2)")
	case p.Mode == sts.ModeEnforce && p.MaxAge < leastAge:
		out["max_age"] = errors.New(`must be at least 24h where mode is "enforce": some large senders do not keep a policy with less, and then nothing is enforced`)
	}
	if p.Mode != sts.ModeNone && len(p.MX) == 0 {
		out["mx"] = errors.New("is missing: the names of the domain's MX hosts, as their certificates have them")
	}
	for _, m := range p.MX {
		one := &sts.Policy{Mode: sts.ModeTesting, MaxAge: goodAge, MX: []string{m}}
		if read, _, err := sts.ParsePolicy([]byte(Text(one))); err != nil || len(read.MX) != 1 || read.MX[0] != m {
			out["mx"] = fmt.Errorf("%q must be a host name such as mx1.example.com in lower case, or *. and one: * stands for one label (RFC 8461, 4.1)", m)
			break
		}
	}
	if len(out) == 0 && len(p.Applied().MX) < len(p.MX) {
		out["mx"] = errors.New("has a name twice, or more names than senders apply (500, and 16 KiB)")
	}
	return out
}

// Warning says what works of a policy and is not as it should be; no text where all is.
func Warning(p *sts.Policy) phrase.Phrase {
	if p.Mode != sts.ModeNone && p.MaxAge < goodAge {
		return phrase.New("max_age is %s: the protection ends when the policy host cannot be reached for so long; RFC 8461, 3.2, asks for weeks (336h)", p.MaxAge)
	}
	return phrase.Phrase{}
}
