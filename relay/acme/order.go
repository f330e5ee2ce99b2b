package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

const (
	// workers are how many first orders are made at a time; certmagic makes 10 in 10 s at
	// most.
	workers = 4
	// lookAgain is the time after which a name is looked at again that was not ready.
	lookAgain = 5 * time.Minute
	// rateLimited is the wait after the authority has said that there were too many orders.
	rateLimited = 3 * time.Hour
	// orderTime bounds one order.
	orderTime = 5 * time.Minute
)

// waits are those after failed orders; the last one repeats. An authority may lock a name
// after five in an hour.
var waits = []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}

var errNotAgreed = phrase.Errorf("acme.agree is not true: no certificate is ordered without your agreement to the authority's terms")

// Set says which names have a certificate. Those of others are not renewed any more.
func (c *Certificates) Set(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for known := range c.names {
		if !slices.Contains(names, known) {
			delete(c.names, known)
			for _, cert := range c.cache.AllMatchingCertificates(known) {
				c.cache.Remove([]string{cert.Hash()})
			}
		}
	}
	c.queue = slices.DeleteFunc(c.queue, func(n string) bool { return c.names[n] == nil })
	for _, n := range names {
		if c.names[n] == nil {
			c.names[n] = &name{}
			c.queue = append(c.queue, n)
		}
	}
	c.tell()
}

// tell wakes Run.
func (c *Certificates) tell() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run makes the first orders, several at a time and in turn, until ctx ends. Renewals are
// certmagic's.
func (c *Certificates) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	places := make(chan struct{}, workers)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		of, wait := c.next()
		if of == "" {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-c.wake:
			case <-timer.C:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case places <- struct{}{}:
		}
		running.Go(func() {
			defer func() { <-places }()
			c.order(ctx, of)
		})
	}
}

// next takes the next name whose order is due, or says how long to wait for one.
func (c *Certificates) next() (of string, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.queue) > 0 {
		of, c.queue = c.queue[0], c.queue[1:]
		return of, 0
	}
	wait = time.Hour
	for of, n := range c.names {
		if n.state.Next.IsZero() {
			continue
		}
		if left := n.state.Next.Sub(now); left <= 0 {
			n.state.Next = time.Time{}
			return of, 0
		} else if left < wait {
			wait = left
		}
	}
	return "", wait
}

// order has a certificate for a name: the one in the store, or a new one.
func (c *Certificates) order(ctx context.Context, of string) {
	whole, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	start := time.Now()
	var err error
	if known := c.cache.AllMatchingCertificates(of); len(known) == 0 {
		err = c.config.ManageSync(whole, []string{of})
	} else if known[0].NeedsRenewal(c.config) { // it was in the store, and could not be renewed
		err = c.renew(whole, of, false)
	}
	if ctx.Err() != nil {
		return
	}
	c.ended(of, time.Since(start), err)
	if err == nil {
		c.o.Changed(of)
	}
}

// ended notes what came of an order, and when the next one is made.
func (c *Certificates) ended(of string, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.names[of]
	if n == nil {
		return // it is not wanted any more
	}
	if err == nil {
		n.tries, n.state = 0, State{}
		if took > 0 {
			c.took = took
		}
		return
	}
	problem := n.state.Problem
	n.state.Problem, n.state.Refused = explain(err)
	n.state.Next = time.Now().Add(n.wait(err))
	c.tell()
	if problem != n.state.Problem {
		c.o.Logger.Warn("no certificate can be had", "host", of, "error", n.state.Problem, "next", n.state.Next)
	}
}

// wait is the time until the next order after one that failed.
func (n *name) wait(err error) time.Duration {
	if _, ok := errors.AsType[*notReadyError](err); ok {
		return lookAgain
	}
	wait := waits[min(n.tries, len(waits)-1)]
	n.tries++
	if p, ok := errors.AsType[acme.Problem](err); ok && p.Type == acme.ProblemTypeRateLimited {
		wait = max(wait, rateLimited)
	}
	return wait
}

// explain says why there is no certificate, in one line, and whether the authority said so.
func explain(err error) (text string, refused bool) {
	if e, ok := errors.AsType[*notReadyError](err); ok {
		return e.err.Error(), false
	}
	if e, ok := errors.AsType[*updateError](err); ok {
		return e.Error(), false
	}
	if p, ok := errors.AsType[acme.Problem](err); ok {
		text := fmt.Sprintf("the authority refused (%s: %s)", strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:"), p.Detail)
		for _, sub := range p.Subproblems {
			text += "; " + sub.Detail
		}
		return strings.Join(strings.Fields(text), " "), true
	}
	return strings.Join(strings.Fields(err.Error()), " "), false
}

// notReadyError is why nothing is ordered.
type notReadyError struct{ err error }

func (e *notReadyError) Error() string { return e.err.Error() }
func (e *notReadyError) Unwrap() error { return e.err }

// event is told by certmagic before each order and renewal, and after each that failed.
func (c *Certificates) event(ctx context.Context, event string, data map[string]any) error {
	of, _ := data["identifier"].(string)
	switch event {
	case "cert_obtaining":
		if err := c.ready(ctx, of); err != nil {
			c.failedRenewal(of, data["renewal"], &notReadyError{err})
			return &notReadyError{err}
		}
	case "cert_obtained":
		c.ended(of, 0, nil)
	case "cert_failed":
		if err, ok := data["error"].(error); ok {
			c.failedRenewal(of, data["renewal"], err)
		}
	}
	return nil
}

// failedRenewal notes why a certificate is not renewed. certmagic tries again by itself.
func (c *Certificates) failedRenewal(of string, renewal any, err error) {
	if renewal != true {
		return // order tells of that
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.names[of]
	if n == nil {
		return
	}
	problem := n.state.Problem
	n.state.Problem, n.state.Refused = explain(err)
	if problem != n.state.Problem {
		c.o.Logger.Warn("a certificate is not renewed; it is tried again", "host", of, "error", n.state.Problem)
	}
}

// ready looks whether an order can succeed.
func (c *Certificates) ready(ctx context.Context, of string) error {
	c.mu.Lock()
	_, wanted := c.names[of]
	c.mu.Unlock()
	switch {
	case !wanted:
		return phrase.Errorf("no certificate is wanted for %s", of)
	case !c.o.Agreed:
		return errNotAgreed
	}
	if err := c.o.Ready(ctx, of); err != nil {
		return err
	}
	if c.o.CAA == nil {
		return nil
	}
	return c.authority.Allowed(ctx, c.o.CAA, of)
}
