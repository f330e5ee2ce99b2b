package web

import (
	"strings"

	"golang.org/x/net/idna"
)

// domainName returns a domain with its Unicode form before it where there is one and it
// is a name that the registries allow: "müller.example (xn--mller-kva.example)".
func domainName(ascii string) string {
	if !strings.Contains(ascii, "xn--") {
		return ascii
	}
	unicode, err := idna.Lookup.ToUnicode(ascii)
	if err != nil || unicode == ascii {
		return ascii
	}
	return unicode + " (" + ascii + ")"
}
