package outbound

import (
	"fmt"
	"testing"
	"time"
)

func TestTheRotationIsBoundedInTimeAndSize(t *testing.T) {
	var r Rotation
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	r.set("a.example", tried{"mx": true}, now)
	if !r.of("a.example", now.Add(5*time.Hour))["mx"] {
		t.Error("it does not last until the next retry")
	}
	if r.of("a.example", now.Add(-time.Hour)) != nil || r.of("a.example", now.Add(25*time.Hour)) != nil {
		t.Error("it lasts for ever")
	}
	r.works("a.example", now)
	r.works("a.example", now.Add(9*time.Minute)) // does not make it last longer
	if !r.of("a.example", now.Add(9*time.Minute))["mx"] || r.of("a.example", now.Add(11*time.Minute)) != nil {
		t.Error("the best hosts are not tried again in time")
	}
	r.set("a.example", nil, now)
	if r.of("a.example", now) != nil || r.size != 0 {
		t.Errorf("%+v", &r)
	}
	for i := range 3 * maxRotation / 100 {
		t100 := make(tried)
		for j := range 100 {
			t100[fmt.Sprint(j)] = true
		}
		r.set(fmt.Sprint(i), t100, now)
		if r.size > maxRotation || r.size != 100*len(r.domains) {
			t.Fatalf("%d for %d domains", r.size, len(r.domains))
		}
	}
}
