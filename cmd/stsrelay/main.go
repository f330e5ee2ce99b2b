//go:build unix

// What old hosts need for TLS, see docs/tls.md.
//
//go:debug x509negativeserial=1
//go:debug tlssha1=1
//go:debug tlsmaxrsasize=16384

// Command stsrelay is a smarthost that delivers over verified TLS where the
// recipient's domain asks for it. `stsrelay help` lists its commands.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}
