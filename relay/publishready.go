package relay

import (
	"context"
	"maps"
	"slices"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// readyPrefix is of the domains that the operator was told are ready for mode enforce, each
// with an empty value.
func readyPrefix() []byte { return slices.Concat(store.PrefixOperator, []byte("ready/")) }

// tellReady mails the operator, once, which domains in mode testing are ready for mode
// enforce: the reports of others show it, and the last look found nothing amiss. A domain
// that leaves mode testing is forgotten, and told again should it come back.
func (r *Relay) tellReady(ctx context.Context) {
	c := r.config.Load()
	if c.Notices.Operator == "" {
		return
	}
	ready, gone, err := r.readyDomains(ctx)
	also := func(b *store.Batch) {
		for _, d := range ready {
			b.Set(append(readyPrefix(), d.Domain...), nil)
		}
		for _, domain := range gone {
			b.Delete(append(readyPrefix(), domain...))
		}
	}
	switch {
	case err != nil:
	case len(ready) > 0:
		_, err = r.queueAlert(c.Notices.Operator, alert.ReadyMail(c.Hostname, c.Notices.Operator, c.Notices.Language, r.now(), ready), also)
	case len(gone) > 0:
		var b store.Batch
		also(&b)
		err = store.Commit(ctx, r.store, &b)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Error("the operator could not be told which domains are ready for mode enforce; it is tried again in an hour", "error", err)
	}
}

// toldReady are the domains that the operator was told of.
func (r *Relay) toldReady() (map[string]bool, error) {
	told := make(map[string]bool)
	prefix := readyPrefix()
	err := r.store.ScanKeys(prefix, nil, func(k []byte) error {
		told[string(k[len(prefix):])] = true
		return nil
	})
	return told, err
}

// readyDomains are those to tell of now, and those that were told and have left mode testing.
func (r *Relay) readyDomains(ctx context.Context) (ready []alert.Ready, gone []string, err error) {
	told, err := r.toldReady()
	if err != nil {
		return nil, nil, err
	}
	verdicts, err := r.received.Verdicts(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range r.publisher.Served() {
		name := s.Domain.Name
		if s.Leaving || s.Domain.Policy.Mode != sts.ModeTesting {
			continue
		}
		was := told[name]
		delete(told, name)
		v := verdicts[name]
		if was || !v.Ready || !r.watch.Fine(name) {
			continue
		}
		enforce := *s.Domain.Policy
		enforce.Mode = sts.ModeEnforce
		ready = append(ready, alert.Ready{Domain: name, Days: v.Days, Senders: v.Senders, Sessions: v.Sessions, Enforced: publish.ID(publish.Text(&enforce))})
	}
	return ready, slices.Sorted(maps.Keys(told)), nil
}
