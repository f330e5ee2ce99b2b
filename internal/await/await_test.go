package await

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// failing notes how it fails.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

func TestAWaitEndsSoonAfterTheEventOrAtTheLimit(t *testing.T) {
	for _, tt := range []struct {
		after, most time.Duration
		failure     string
	}{
		{0, 0, ""},
		{10 * time.Millisecond, 11 * time.Millisecond, ""},
		{400 * time.Millisecond, 425 * time.Millisecond, ""},
		{2 * time.Minute, 2*time.Minute + 50*time.Millisecond, ""},
		{3 * time.Minute, 2*time.Minute + 100*time.Millisecond, "waited in vain for rain"},
	} {
		t.Run(tt.after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, f := time.Now(), &failing{TB: t}
				func() {
					defer func() { _ = recover() }()
					Until(f, "rain", func() bool { return time.Since(begun) >= tt.after })
				}()
				if took := time.Since(begun); took > tt.most || f.said != tt.failure {
					t.Errorf("it ended after %s, saying %q; want at most %s, %q", took, f.said, tt.most, tt.failure)
				}
			})
		})
	}
}
