//go:build !unix

package cputime

import "time"

// Used returns 0: the relay does not run here, and its tests need only build.
func Used() time.Duration { return 0 }
