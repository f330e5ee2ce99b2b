package operator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/history"
)

// HistoryQuery says which records of the history are wanted. Empty fields ask for
// nothing.
type HistoryQuery struct {
	From, To, Domain, MessageID, ID string
	// Verdict is delivered, deferred or bounced; Proof is dane, mta-sts, verified,
	// encrypted or none; Event is one of history.Kind.
	Verdict, Proof, Event string
	Since, Until          time.Time
	// Limit is how many records are wanted at most; 0: all.
	Limit       int
	OldestFirst bool
}

// query checks what was asked for.
func (q *HistoryQuery) query() (history.Query, error) {
	out := history.Query{
		From: q.From, To: q.To, Domain: q.Domain, MessageID: q.MessageID, QueueID: q.ID, Verdict: q.Verdict, Proof: history.Proof(q.Proof),
		Since: q.Since, Until: q.Until, Limit: q.Limit, OldestFirst: q.OldestFirst,
	}
	for _, c := range []struct {
		name, value string
		known       []string
	}{
		{"verdict", q.Verdict, []string{"delivered", "deferred", "bounced"}},
		{"proof", q.Proof, texts(history.Proofs)},
		{"event", q.Event, texts(history.Kinds)},
	} {
		if c.value != "" && !slices.Contains(c.known, c.value) {
			return out, phrase.Errorf("%s %q is not %s or %s", c.name, c.value, strings.Join(c.known[:len(c.known)-1], ", "), c.known[len(c.known)-1])
		}
	}
	if q.Event != "" {
		out.Kinds = []history.Kind{history.Kind(q.Event)}
	}
	if q.Limit < 0 {
		return out, phrase.Errorf("limit %d is negative", q.Limit)
	}
	return out, nil
}

// texts returns values of a type of texts as they are written.
func texts[T ~string](list []T) (out []string) {
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}

// History calls yield with the records that are wanted, the newest first unless the
// query says otherwise, until it returns false.
func (o *Operator) History(ctx context.Context, q HistoryQuery, yield func(*history.Record) bool) error {
	query, err := q.query()
	if err != nil {
		return failed(invalid, err)
	}
	if o.o.History == nil {
		return nil
	}
	return o.o.History.Search(ctx, query, func(r history.Record) bool { return yield(&r) })
}

// Timeline returns all records of a message by its queue ID, a prefix of it, or its
// Message-ID, the oldest first.
func (o *Operator) Timeline(ctx context.Context, id string) ([]history.Record, error) {
	if o.o.History == nil {
		return nil, failed(conflict, phrase.Errorf("there is no history"))
	}
	list, err := o.o.History.Timeline(ctx, id)
	if err == nil && len(list) == 0 {
		err = failed(notFound, phrase.Errorf("%s: the history has nothing of such a message", id))
	}
	return list, err
}

// Evidence returns what is known of how a message travelled, by its queue ID or its
// Message-ID.
func (o *Operator) Evidence(ctx context.Context, id string) ([]history.Evidence, error) {
	if o.o.History == nil {
		return nil, failed(conflict, phrase.Errorf("there is no history"))
	}
	all, err := o.o.History.Evidence(ctx, id, o.o.Hostname, o.o.Version)
	if errors.Is(err, history.ErrNothing) {
		return nil, failed(notFound, err)
	}
	return all, err
}

// mostEvidence is for how many messages EvidenceOf collects evidence.
const mostEvidence = 500

// EvidenceOf returns what is known of how the messages travelled of which a delivery is
// wanted.
func (o *Operator) EvidenceOf(ctx context.Context, q HistoryQuery) ([]history.Evidence, error) {
	query, err := q.query()
	if err != nil {
		return nil, failed(invalid, err)
	}
	if o.o.History == nil {
		return nil, failed(conflict, phrase.Errorf("there is no history"))
	}
	all, err := o.o.History.EvidenceOf(ctx, query, mostEvidence, o.o.Hostname, o.o.Version)
	switch {
	case errors.Is(err, history.ErrNothing):
		return nil, failed(notFound, err)
	case errors.Is(err, history.ErrTooMany):
		return nil, failed(invalid, err)
	}
	return all, err
}

// HistorySummary returns how the mail of a time was protected.
func (o *Operator) HistorySummary(ctx context.Context, since, until time.Time) (history.Summary, error) {
	if !since.Before(until) {
		return history.Summary{}, failed(invalid, phrase.Errorf("since must be before until"))
	}
	return o.o.History.Summary(ctx, since, until)
}

// Forget takes a mail address out of the history, and returns how many records had it.
func (o *Operator) Forget(ctx context.Context, actor Actor, address string, dryRun bool) (Affected, error) {
	if !strings.Contains(address, "@") {
		return Affected{}, failed(invalid, phrase.Errorf("%q is not a mail address", address))
	}
	n, err := o.o.History.Forget(ctx, address, dryRun)
	if err == nil && !dryRun {
		o.log(ctx, actor, "an address was taken out of the history", slog.Int("records", n))
	}
	return Affected{Affected: n}, err
}
