package history

import (
	"errors"
	"testing"
	"time"
)

func TestEvidenceOfASearchIsBounded(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	l, err := Open(Options{Dir: t.TempDir(), Settings: Settings{Keep: 24 * time.Hour}, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, id := range []string{"01KAEGZ6G00000000000000001", "01KAEGZ6G00000000000000002", "01KAEGZ6G00000000000000003"} {
		l.Add(Record{Kind: Attempt, QueueID: id, From: "a@a.example", To: []string{"b@b.example"}, Domain: "b.example", Verdict: "delivered"})
		l.Add(Record{Kind: Attempt, QueueID: id, From: "a@a.example", To: []string{"c@b.example"}, Domain: "b.example", Verdict: "deferred"})
	}
	for _, row := range []struct {
		q    Query
		most int
		want int
		err  error
	}{
		{Query{Domain: "b.example"}, 3, 3, nil},
		{Query{Domain: "b.example"}, 2, 0, ErrTooMany},
		{Query{To: "c@b.example"}, 3, 0, ErrNothing},
		{Query{Proof: ProofDANE}, 3, 0, ErrNothing},
	} {
		if all, err := l.EvidenceOf(t.Context(), row.q, row.most, "relay.example", "1"); len(all) != row.want || !errors.Is(err, row.err) {
			t.Errorf("%+v: %d, %v", row.q, len(all), err)
		}
	}
}
