package queue

import (
	"bytes"
	"testing"
	"time"
)

// Where the clock was ahead once, all IDs that come after are ahead, for they grow. Such mail
// is exported and imported as all other.
func TestMailWithIDsOfAClockThatWasAheadIsMoved(t *testing.T) {
	from, there := newBench(t, Options{}), newBench(t, Options{})
	from.step(2 * 365 * 24 * time.Hour)
	ahead := from.accept("ahead", to("a@a.example"))
	from.step(-2 * 365 * 24 * time.Hour)
	after := from.accept("after", to("b@a.example"))
	file := from.export()
	if checked, err := CheckExport(bytes.NewReader(file)); err != nil || !checked.Whole() || checked.Messages != 2 {
		t.Errorf("the check: %+v, %v", checked, err)
	}
	if got := there.import_(file, ""); !got.Whole() || got.Messages != 2 {
		t.Errorf("the import: %+v", got)
	}
	for id, body := range map[ID]string{ahead: "ahead", after: "after"} {
		if got := there.content(id); got != body {
			t.Errorf("%s: %q", id, got)
		}
	}
}
