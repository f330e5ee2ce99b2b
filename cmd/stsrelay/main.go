// Command stsrelay is a smarthost that delivers over verified TLS where the
// recipient's domain asks for it. `stsrelay help` lists its commands.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}
