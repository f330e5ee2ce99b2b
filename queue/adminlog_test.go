package queue

import (
	"fmt"
	"strings"
	"testing"
)

// Recipients of a message that was never tried are in no other line.
func TestTheLogNamesAllRecipientsOfWhatIsRemoved(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	var addresses []string
	for i := range 120 {
		addresses = append(addresses, fmt.Sprintf("user%d@x.test", i))
	}
	b.accept("x", to(addresses...))
	b.touched(1)(b.Remove(t.Context(), Filter{}))
	b.applyCanceled()
	text := b.logs.buf.String()
	for _, a := range addresses {
		if !strings.Contains(text, a) {
			t.Errorf("%s is not in the log", a)
		}
	}
	if n := strings.Count(text, `msg="removed by the operator"`); n != 3 {
		t.Errorf("%d lines", n) // of 50, 50 and 20 recipients
	}
}
