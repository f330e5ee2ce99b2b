package tlsrpt

import "strings"

// iJSON makes a text fit for I-JSON (RFC 7493, 2.1): noncharacters are replaced, and
// so is U+0000, which databases of receivers refuse (PostgreSQL has no room for it
// in a text). What is no UTF-8 is replaced too.
func iJSON(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 0 || r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE {
			return '\uFFFD'
		}
		return r // strings.Map reads what is no UTF-8 as U+FFFD
	}, s)
}

// iJSONAll is iJSON for each text; all itself where nothing is to be replaced.
func iJSONAll(all []string) []string {
	for i, s := range all {
		if fit := iJSON(s); fit != s {
			out := append([]string(nil), all...)
			for j := i; j < len(out); j++ {
				out[j] = iJSON(out[j])
			}
			return out
		}
	}
	return all
}
