package history

import (
	"context"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Evidence documents how one message was delivered from this relay to the hosts of its
// recipients.
type Evidence struct {
	// Relay and Version are the hostname and version of the relay that created this
	// document.
	Relay   string `json:"relay"`
	Version string `json:"version"`
	// Made is when this document was created.
	Made      time.Time `json:"made"`
	QueueID   string    `json:"queue_id"`
	MessageID string    `json:"message_id"`
	From      string    `json:"from"`
	To        []string  `json:"to"`
	Size      int64     `json:"size"`
	// Accepted is when the relay accepted the message; zero if the history no longer
	// has that record.
	Accepted   time.Time  `json:"accepted"`
	Deliveries []Delivery `json:"deliveries"`
	// Chains has the value of the history's chain (Log.Chain) for each day with a
	// delivery, at the time when the document was created.
	Chains []DayChain `json:"chains"`
}

// Delivery is a delivery to one or more recipients in one session.
type Delivery struct {
	At     time.Time `json:"at"`
	To     []string  `json:"to"`
	Domain string    `json:"domain"`
	Host   string    `json:"host"`
	IP     string    `json:"ip"`
	Reply  string    `json:"reply"`
	TLS    TLS       `json:"tls"`
}

// DayChain is the value of the chain of a day, in hexadecimal.
type DayChain struct {
	Day   string `json:"day"`
	Value string `json:"value"`
	// Whole reports whether the file of the day matches its chain.
	Whole bool `json:"whole"`
}

// ErrNothing is the error for a message without a delivery in the history.
var ErrNothing = phrase.Errorf("the history has no delivery of this message")

// ErrTooMany is the error for evidence of more messages than are wanted at once.
var ErrTooMany = phrase.Errorf("these are too many messages for one document")

// Evidence collects the evidence for a message. id is its queue ID or its Message-ID.
// Several messages may have the same Message-ID, each with its own queue ID. The error
// wraps ErrNothing if none of them was delivered.
func (l *Log) Evidence(ctx context.Context, id, relay, version string) ([]Evidence, error) {
	list, err := l.Timeline(ctx, id)
	if err != nil {
		return nil, err
	}
	all, err := l.evidence(ctx, list, relay, version)
	if err == nil && len(all) == 0 {
		err = phrase.Errorf("%s: %w", id, ErrNothing)
	}
	return all, err
}

// evidence collects the evidence from all records of some messages, the oldest first.
func (l *Log) evidence(ctx context.Context, list []Record, relay, version string) ([]Evidence, error) {
	byID := make(map[string]*Evidence)
	var order []string
	for _, r := range list {
		e := byID[r.QueueID]
		if e == nil {
			e = &Evidence{Relay: relay, Version: version, Made: l.o.Now().UTC().Round(time.Second), QueueID: r.QueueID}
			byID[r.QueueID] = e
			order = append(order, r.QueueID)
		}
		e.add(&r)
	}
	var all []Evidence
	chains := make(map[string]DayChain)
	for _, id := range order {
		e := byID[id]
		if len(e.Deliveries) == 0 {
			continue
		}
		if err := l.addChains(ctx, e, chains); err != nil {
			return nil, err
		}
		all = append(all, *e)
	}
	return all, nil
}

// addChains adds the chain of each day with a delivery. known has those that were read.
func (l *Log) addChains(ctx context.Context, e *Evidence, known map[string]DayChain) error {
	for i := range e.Deliveries {
		at := e.Deliveries[i].At
		day := at.Format(time.DateOnly)
		if slices.ContainsFunc(e.Chains, func(c DayChain) bool { return c.Day == day }) {
			continue
		}
		if _, ok := known[day]; !ok {
			value, whole, err := l.Chain(ctx, at)
			if err != nil {
				return err
			}
			known[day] = DayChain{day, value, whole}
		}
		e.Chains = append(e.Chains, known[day])
	}
	return nil
}

// EvidenceOf collects the evidence for the messages of which a delivery matches q, the
// oldest first. The error wraps ErrNothing where there is none, and ErrTooMany where
// there are more than most.
func (l *Log) EvidenceOf(ctx context.Context, q Query, most int, relay, version string) ([]Evidence, error) {
	q.Kinds, q.Verdict, q.OldestFirst, q.Limit = []Kind{Attempt}, "delivered", true, 0
	wanted, since := make(map[string]bool), l.o.Now()
	from := func(at time.Time) {
		if at.Before(since) {
			since = at
		}
	}
	err := l.Search(ctx, q, func(r Record) bool {
		wanted[r.QueueID] = true
		if id, err := ulid.ParseStrict(r.QueueID); err == nil {
			from(id.Timestamp()) // when it was accepted
		}
		from(r.At.Add(-24 * time.Hour)) // the clock may have been wrong then
		return len(wanted) <= most
	})
	switch {
	case err != nil:
		return nil, err
	case len(wanted) > most:
		return nil, phrase.Errorf("%w: more than %d; narrow the search", ErrTooMany, most)
	case len(wanted) == 0:
		return nil, ErrNothing
	}
	var list []Record
	whole := Query{Kinds: []Kind{Accepted, Attempt}, From: q.From, Since: since, OldestFirst: true}
	err = l.Search(ctx, whole, func(r Record) bool {
		if wanted[r.QueueID] {
			list = append(list, r)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return l.evidence(ctx, list, relay, version)
}

// add adds the content of a record to the evidence.
func (e *Evidence) add(r *Record) {
	if r.MessageID != "" {
		e.MessageID = r.MessageID
	}
	if r.From != "" {
		e.From = r.From
	}
	switch {
	case r.Kind == Accepted:
		e.Accepted, e.To, e.Size = r.At, r.To, r.Size
	case r.Kind == Attempt && r.Verdict == "delivered":
		d := Delivery{At: r.At, To: r.To, Domain: r.Domain, Host: r.Host, IP: r.IP, Reply: r.Reply, TLS: TLS{Proof: ProofNone}}
		if r.TLS != nil {
			d.TLS = *r.TLS
		}
		if r.Size > 0 {
			e.Size = r.Size
		}
		e.Deliveries = append(e.Deliveries, d)
	}
}

// Timeline returns all records of a message, the oldest first. id is its queue ID, the
// beginning of its queue ID, or its Message-ID.
func (l *Log) Timeline(ctx context.Context, id string) ([]Record, error) {
	q := Query{QueueID: id, OldestFirst: true}
	if isMessageID(id) {
		q.QueueID, q.MessageID = "", id
	}
	var list []Record
	err := l.Search(ctx, q, func(r Record) bool {
		list = append(list, r)
		return true
	})
	return list, err
}

// isMessageID reports whether id is a Message-ID. A queue ID has only letters and digits.
func isMessageID(id string) bool {
	return slices.ContainsFunc([]byte(id), func(c byte) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// Summary counts how outgoing mail was protected in a period.
type Summary struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Deliveries is the number of recipients to whom mail was delivered.
	Deliveries int `json:"deliveries"`
	// ByProof counts these recipients by Proof.
	ByProof map[Proof]int `json:"by_proof"`
	// InClear counts the recipients whose mail was sent without TLS, by domain.
	InClear map[string]int `json:"in_clear"`
	// Gaps are the records of times for which others may be missing.
	Gaps []Record `json:"gaps"`
}

// Summary summarizes the history from since, inclusive, to until, exclusive.
func (l *Log) Summary(ctx context.Context, since, until time.Time) (Summary, error) {
	s := Summary{Since: since, Until: until, ByProof: make(map[Proof]int), InClear: make(map[string]int), Gaps: []Record{}}
	err := l.Search(ctx, Query{Since: since, Until: until, OldestFirst: true}, func(r Record) bool {
		switch {
		case r.Kind == Gap:
			s.Gaps = append(s.Gaps, r)
		case r.Kind == Attempt && r.Verdict == "delivered":
			proof := ProofNone
			if r.TLS != nil {
				proof = r.TLS.Proof
			}
			s.Deliveries += len(r.To)
			s.ByProof[proof] += len(r.To)
			if proof == ProofNone {
				s.InClear[r.Domain] += len(r.To)
			}
		}
		return true
	})
	return s, err
}
