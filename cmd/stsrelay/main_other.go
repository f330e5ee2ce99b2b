//go:build !unix

package main

import (
	"fmt"
	"os"
	"runtime"
)

// main says that this system is not supported: the queue needs memory maps, msync and
// locks as Unix has them.
func main() {
	fmt.Fprintf(os.Stderr, "stsrelay: %s is not supported; run stsrelay on Linux, for example in a container or in WSL 2, or on macOS or a BSD\n", runtime.GOOS)
	os.Exit(exitFailed)
}
