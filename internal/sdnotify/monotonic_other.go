//go:build !linux

package sdnotify

import "time"

// monotonic returns 0: systemd is on Linux only.
func monotonic() time.Duration { return 0 }
