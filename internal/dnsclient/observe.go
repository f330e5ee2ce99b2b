package dnsclient

import (
	"context"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// Observation is the answer to a question, for those who watch a delivery.
type Observation struct {
	Name, Type string
	// Secure reports whether DNSSEC vouches for the answer (the AD bit of a resolver
	// that is believed).
	Secure bool
	// Records are the records in words; none where Err is set.
	Records []string
	Err     error
}

// String returns the answer in one line.
func (o *Observation) String() string {
	guard := "not signed"
	if o.Secure {
		guard = "AD"
	}
	text := strings.Join(o.Records, ", ")
	if o.Err != nil {
		text = o.Err.Error()
	}
	return fmt.Sprintf("%s %s [%s]: %s", o.Name, o.Type, guard, text)
}

type observerKey struct{}

// WithObserver returns a context with which each look-up tells its answer to tell,
// whether it comes from the cache or not. tell may be called from many goroutines.
func WithObserver(ctx context.Context, tell func(Observation)) context.Context {
	return context.WithValue(ctx, observerKey{}, tell)
}

func observation(name string, qtype uint16, a *answer, err error) Observation {
	o := Observation{Name: name, Type: dns.TypeToString[qtype], Err: err}
	if err != nil {
		o.Secure = isSecureDenial(err)
		return o
	}
	o.Secure = a.secure
	r := &a.records
	o.Records = append(append(o.Records, r.txt...), r.names...)
	for _, mx := range r.mx {
		o.Records = append(o.Records, fmt.Sprintf("%d %s", mx.Preference, mx.Host))
	}
	for _, addr := range r.addrs {
		o.Records = append(o.Records, addr.String())
	}
	for i := range r.tlsa {
		t := &r.tlsa[i]
		o.Records = append(o.Records, fmt.Sprintf("%d %d %d %x", t.Usage, t.Selector, t.MatchingType, t.Data))
	}
	return o
}
