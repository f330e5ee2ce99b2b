//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/emersion/go-smtp"
)

// send hands all messages to the relay, over several sessions.
func (w *world) send(ctx context.Context, p *plan) error {
	const sessions = 8
	work := make(chan *message)
	errs := make(chan error, sessions)
	var wg sync.WaitGroup
	for range sessions {
		wg.Go(func() {
			if err := w.sendAll(work); err != nil {
				errs <- err
			}
		})
	}
	err := func() error {
		defer close(work)
		for _, m := range p.messages {
			select {
			case work <- m:
			case err := <-errs:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}()
	wg.Wait()
	close(errs)
	if err == nil {
		err = <-errs
	}
	if err != nil {
		w.showLog()
	}
	return err
}

func (w *world) sendAll(work <-chan *message) error {
	c, err := smtp.Dial(door)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.Hello("client." + senderDomain); err != nil {
		return err
	}
	for m := range work {
		if err := sendOne(c, m); err != nil {
			return fmt.Errorf("the relay refuses %s (%s): %w", m.token, m.kind, err)
		}
		w.handed.Add(1)
	}
	return c.Quit()
}

func sendOne(c *smtp.Client, m *message) error {
	o := &smtp.MailOptions{UTF8: m.utf8}
	if m.eightBit {
		o.Body = smtp.Body8BitMIME
	}
	if err := c.Mail(m.from, o); err != nil {
		return err
	}
	for _, r := range m.recipients {
		if err := c.Rcpt(r.address, nil); err != nil {
			return err
		}
	}
	d, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.Copy(d, bytes.NewReader(m.content)); err != nil {
		return err
	}
	return d.Close()
}
