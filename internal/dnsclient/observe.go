package dnsclient

import (
	"context"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// Observation is the answer to a question, for those who watch a delivery.
type Observation struct {
	question question
	answer   *answer
}

// String returns the answer in one line: name, type, whether DNSSEC vouches for it (the AD
// bit of a resolver that is believed), and the records in words or the error.
func (o *Observation) String() string {
	text, secure := strings.Join(o.answer.records.words(), ", "), o.answer.secure
	if err := o.answer.err; err != nil {
		text, secure = err.Error(), err.Secure
	}
	guard := "not signed"
	if secure {
		guard = "AD"
	}
	return fmt.Sprintf("%s %s [%s]: %s", o.question.name, dns.TypeToString[o.question.qtype], guard, text)
}

type observerKey struct{}

// WithObserver returns a context with which each look-up tells its answer to tell,
// whether it comes from the cache or not. tell may be called from many goroutines.
func WithObserver(ctx context.Context, tell func(*Observation)) context.Context {
	return context.WithValue(ctx, observerKey{}, tell)
}

// words are the records as texts.
func (r *records) words() []string {
	all := append(append([]string(nil), r.txt...), r.names...)
	for _, mx := range r.mx {
		all = append(all, fmt.Sprintf("%d %s", mx.Preference, mx.Host))
	}
	for _, addr := range r.addrs {
		all = append(all, addr.String())
	}
	for i := range r.tlsa {
		t := &r.tlsa[i]
		all = append(all, fmt.Sprintf("%d %d %d %x", t.Usage, t.Selector, t.MatchingType, t.Data))
	}
	return all
}
