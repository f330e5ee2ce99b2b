package history

import (
	"fmt"
	"testing"
	"time"
)

// A client that is refused without end does not fill the history.
func TestRefusalsAreBounded(t *testing.T) {
	c := newClock()
	l := open(t, t.TempDir(), c)
	for i := range refusalsAMinute + 50 {
		l.AddRefused("192.0.2.1", "a@x.test", "RCPT", "5.7.1", fmt.Sprintf("550 5.7.1 no %d", i))
	}
	c.advance(time.Minute)
	l.AddRefused("192.0.2.1", "", "MAIL", "", "501 no")
	list := find(t, l, Query{Kinds: []Kind{Refused}})
	if len(list) != refusalsAMinute+2 {
		t.Fatalf("%d records", len(list))
	}
	if list[0].What != "MAIL" || list[1].Lines != 50 || list[2].Reply != "550 5.7.1 no 299" {
		t.Errorf("%+v", list[:3])
	}
}
