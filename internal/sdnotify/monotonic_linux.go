package sdnotify

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic returns the time of CLOCK_MONOTONIC, by which systemd knows whether a
// RELOADING=1 belongs to the reload that it asked for.
func monotonic() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails on no Linux that Go runs on
	return time.Duration(t.Nano())
}
