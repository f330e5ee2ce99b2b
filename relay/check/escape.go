package check

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxString bounds each text of a report, in octets, maxList each list: a
	// stranger may send 64 KiB of policy.
	maxString = 1000
	maxList   = 100
)

// escape makes a report safe to print: whatever of it came from strangers, no
// text of it has anything in it that a terminal would obey. It goes over all of
// the report so that nothing can be forgotten.
func (r *Report) escape() { escapeValue(reflect.ValueOf(r).Elem()) }

func escapeValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(escape(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			escapeValue(v.Elem())
		}
	case reflect.Slice:
		if v.Len() > maxList {
			v.Set(v.Slice(0, maxList))
		}
		for i := range v.Len() {
			escapeValue(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				escapeValue(v.Field(i))
			}
		}
	}
}

// escape writes what cannot be printed as \x1b or \u202e, and cuts what is too
// long.
func escape(s string) string {
	cut := len(s) > maxString
	if cut {
		s = s[:maxString]
	}
	clean := !cut && utf8.ValidString(s)
	for _, r := range s {
		clean = clean && unicode.IsPrint(r)
	}
	if clean {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1 || r < 0x80 && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}
