package human_test

import (
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
)

func TestSpans(t *testing.T) {
	for s, want := range map[int]string{0: "0s", 59: "59s", 61: "1m 1s", 3600: "1h 0m", 90000: "1d 1h", -5: "0s"} {
		if got := human.Span(time.Duration(s) * time.Second); got != want {
			t.Errorf("%d s: %s, want %s", s, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 84 << 10: "84 KiB", 3 << 19: "1.5 MiB", 5 << 30: "5.0 GiB"} {
		if got := human.Size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct {
		in   string
		n    int
		want string
	}{{"", 3, ""}, {"äöü", 3, "äöü"}, {"äöüß", 3, "äö…"}, {"ab", 1, "…"}} {
		if got := human.Shorten(tt.in, tt.n); got != tt.want {
			t.Errorf("%q to %d: %q", tt.in, tt.n, got)
		}
	}
}
