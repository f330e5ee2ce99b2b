package check

import (
	"reflect"
	"strings"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/printable"
)

const (
	// maxString bounds each text of a report, in octets, and maxList each list: a
	// stranger may send 64 KiB of policy.
	maxString = 1000
	maxList   = 100
)

// escape makes a report safe to print: no text in it has control characters that a
// terminal obeys. It covers the whole report, so that no field can be forgotten. Lists and
// what pointers lead to are copied: the names of a certificate are those of all who use it.
func (r *Report) escape() { escapeValue(reflect.ValueOf(r).Elem()) }

func escapeValue(v reflect.Value) {
	if p, ok := v.Addr().Interface().(*phrase.Phrase); ok {
		if !p.IsZero() {
			*p = p.Filtered(escape)
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(escape(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			to := reflect.New(v.Type().Elem())
			to.Elem().Set(v.Elem())
			escapeValue(to.Elem())
			v.Set(to)
		}
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		n := min(v.Len(), maxList)
		to := reflect.MakeSlice(v.Type(), n, n)
		reflect.Copy(to, v)
		v.Set(to)
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

// escape makes a text printable, and shortens it.
func escape(s string) string {
	if len(s) > maxString {
		return printable.String(strings.ToValidUTF8(s[:maxString], "")) + "…"
	}
	return printable.String(s)
}
