package security

import (
	"testing"
	"time"
)

func TestEndsSoon(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		life, age time.Duration
		want      bool
	}{
		{6 * day, 0, false}, {6 * day, 3*day + 23*time.Hour, false}, {6 * day, 4*day + time.Hour, true},
		{45 * day, 0, false}, {45 * day, 30*day + time.Hour, false}, {45 * day, 32 * day, true},
		{90 * day, 75 * day, false}, {90 * day, 77 * day, true},
		{398 * day, 383 * day, false}, {398 * day, 385 * day, true},
		{2 * day, 12 * time.Hour, false}, {2 * day, 25 * time.Hour, true},
		{90 * day, 91 * day, true},
	} {
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		if got := EndsSoon(begin, begin.Add(tt.life), begin.Add(tt.age)); got != tt.want {
			t.Errorf("life %s, age %s: %t", tt.life, tt.age, got)
		}
	}
}
