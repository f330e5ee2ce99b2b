package queue

import (
	"testing"
)

// A claim that is ended a second time changes nothing: neither results nor notices are
// written, and the log says so.
func TestTheSecondEndOfAClaimIsRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		first  func(*bench, *Claim)
		counts Counts // after the first
	}{
		{"put off", func(b *bench, c *Claim) { b.finish(c, Queued) }, Counts{Messages: 1, Recipients: 1}},
		{"delivered", func(b *bench, c *Claim) { b.finish(c, Delivered) }, Counts{}},
		{"released", func(b *bench, c *Claim) { b.Release(c) }, Counts{Messages: 1, Recipients: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, Options{})
			id := b.accept("x", to("a@x.test"))
			c := b.claim()
			row.first(b, c)
			keys := b.keys([]byte{})
			attempts := 0
			if row.counts.Messages > 0 {
				attempts = b.show(id).Attempts
			}
			b.Finish(c, Outcome{Results: all(c, Bounced), Notices: []NewMessage{{Envelope: to("sender@example.org"), Body: []byte("bounced")}}})
			b.DelayNotified(c, []NewMessage{{Envelope: to("sender@example.org"), Body: []byte("delayed")}})
			b.Release(c)
			b.Postpone(c, 1)
			b.sync()
			if b.Counts() != row.counts || b.keys([]byte{}) != keys || b.Active() != 0 {
				t.Errorf("%+v, %d new keys, %d active", b.Counts(), b.keys([]byte{})-keys, b.Active())
			}
			if !b.logs.has("a change of a message was refused") || !b.logs.has("queue_id="+id.String()) {
				t.Error("the log does not say so")
			}
			if row.counts.Messages > 0 && b.show(id).Attempts != attempts {
				t.Errorf("%d attempts", b.show(id).Attempts)
			}
		})
	}
}
