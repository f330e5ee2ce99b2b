package queue

import (
	"slices"
	"testing"
)

func TestMessagesAreSelectedByTheirReason(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	busy, down, fresh := b.accept("x", to("a@busy.test", "b@other.test")), b.accept("y", to("a@down.test")), b.accept("z", to("b@down.test"))
	for range 3 { // the second of down.test waits for the first
		c := b.claim()
		o := Outcome{Results: all(c, Queued)}
		switch c.Domain {
		case "busy.test":
			o.Results[0].ReasonCode = "busy"
		case "down.test":
			o.Results[0].ReasonCode = "connect"
			o.DomainBackoff.Reason = Reason{Code: "connect", Text: "refused"}
		}
		b.Finish(c, o)
	}
	b.sync()
	for _, row := range []struct {
		filter Filter
		want   []ID
	}{
		{Filter{Why: "busy"}, []ID{busy}},
		{Filter{Why: "connect"}, []ID{down, fresh}}, // the second for the back-off of its domain
		{Filter{Why: "dns"}, nil},
		{Filter{Why: "busy", Domain: "other.test"}, nil},
		{Filter{Why: "busy", Domain: "busy.test"}, []ID{busy}},
	} {
		if got := b.ids(row.filter); !slices.Equal(got, row.want) {
			t.Errorf("%+v: %v, want %v", row.filter, got, row.want)
		}
	}
}
