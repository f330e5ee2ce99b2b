package operator

import (
	"fmt"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/relay/trace"
)

// Trace watches attempts that begin from now on. The ID of the filter may be the
// beginning of one. The caller closes what it returns.
func (o *Operator) Trace(f trace.Filter) (*trace.Watcher, error) {
	if f.ID == "" && f.Domain == "" && f.Host == "" {
		return nil, failed(invalid, fmt.Errorf("say what to trace: a message, a domain or a host"))
	}
	if f.ID != "" {
		m, err := o.find(f.ID)
		if err != nil {
			return nil, err
		}
		f.ID = m.ID.String()
	}
	for _, name := range []*string{&f.Domain, &f.Host} {
		if *name == "" {
			continue
		}
		parsed, err := mailbox.ParseName(*name)
		if err != nil {
			return nil, failed(invalid, err)
		}
		*name = parsed
	}
	w, err := o.o.Trace.Watch(f)
	if err != nil {
		return nil, failed(conflict, err)
	}
	return w, nil
}

// Transcripts returns what the last failed attempts at a message said and heard, by
// domain. Only the last ones of all mail are in memory.
func (o *Operator) Transcripts(id string) ([]trace.Transcript, error) {
	m, err := o.find(id)
	if err != nil {
		return nil, err
	}
	return o.o.Trace.Transcripts(m.ID.String()), nil
}
