package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/stsrelay/stsrelay/internal/store"
)

// outgoing is a report that is being submitted. Its content is made when the first
// destination needs it.
type outgoing struct {
	r        *Reporter
	key      reportKey
	identity Identity
	data     []byte // compressed
	summary  *summary
}

func (p *outgoing) make() error {
	if p.summary != nil {
		return nil
	}
	p.identity = p.r.o.Identity()
	var b bytes.Buffer
	z := <-p.r.gzipWriters
	defer func() { p.r.gzipWriters <- z }()
	if z == nil {
		z = gzip.NewWriter(&b)
	} else {
		z.Reset(&b)
	}
	d, err := p.identity.write(z, p.r.o.Store, p.key, p.r.id(p.key))
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return fmt.Errorf("make the TLS report of %s for %s: %w", p.key.Domain, p.key.Day, err)
	}
	p.data, p.summary = b.Bytes(), d
	return nil
}

// post submits the report to a URL. The outcome is in to; the error is that of the store.
func (p *outgoing) post(ctx context.Context, url string, to *destination) error {
	if err := p.make(); err != nil {
		return err
	}
	err := p.r.o.Post(ctx, url, p.data)
	switch {
	case err == nil:
		to.Progress = Accepted
	case errors.Is(err, ErrRefused):
		to.Progress, to.Why = Refused, err.Error()
	default:
		to.Why = err.Error()
	}
	return nil
}

// mail puts the report into the queue, in one commit with the state of the destination.
// The error is that of the store.
func (p *outgoing) mail(address string, to *destination) error {
	if p.r.o.Queue == nil || p.r.o.Sign == nil {
		to.Why = ErrNoKey.Error()
		return nil
	}
	if err := p.make(); err != nil {
		return err
	}
	l := message{identity: p.identity, to: address, domain: p.key.Domain, unique: p.r.unique(p.key), summary: p.summary, report: p.data, date: p.r.o.Now(), advice: p.r.o.Advice}
	body := l.write()
	fields, err := p.r.o.Sign(domainOf(p.identity.Sender), func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	})
	if err != nil {
		to.Why = err.Error()
		return nil //nolint:nilerr // it is tried again; a key may come
	}
	queued := destination{URI: to.URI, Progress: InQueue}
	err = p.r.o.Queue(&Mail{From: p.identity.Sender, To: address, Body: append(fields, body...)}, func(b *store.Batch, id string) {
		queued.QueueID = id
		b.Set(mailKey(id), encode(p.key))
		change(b, p.key, func(s *submission) { s.set(queued) })
	})
	if err != nil {
		to.Why = fmt.Sprintf("the queue does not take it: %v", err)
		return nil //nolint:nilerr // it is tried again
	}
	*to = queued
	return nil
}
