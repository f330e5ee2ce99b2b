package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// table sets the fields of a struct from a table of the file, and notes all faults.
func (l *loader) table(v reflect.Value, table map[string]any, path string) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		key := strings.TrimPrefix(path+"."+name, ".")
		if field, ok := fieldOf(v, name); ok {
			l.set(field, table[name], key)
		} else {
			l.unknownKey(key, v.Type(), name)
		}
	}
}

func fieldOf(v reflect.Value, name string) (field reflect.Value, ok bool) {
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("toml"); tag == name && tag != "-" {
			return v.Field(i), true
		}
	}
	return field, false
}

// set sets one field. Values of TOML are string, int64, bool, []any, map[string]any, or of
// a type that no key has.
func (l *loader) set(field reflect.Value, value any, key string) {
	if isTable(field.Type()) {
		l.setTable(field, value, key)
		return
	}
	if field.Kind() == reflect.Slice {
		list, ok := value.([]any)
		if !ok {
			l.fail(key, nil, "must be a list: [%s, …]", example(field.Type().Elem()))
			return
		}
		out := reflect.MakeSlice(field.Type(), len(list), len(list))
		for i, e := range list {
			l.setValue(out.Index(i), e, key)
		}
		field.Set(out)
		return
	}
	l.setValue(field, value, key)
}

// setTable sets a table, or a list of them.
func (l *loader) setTable(field reflect.Value, value any, key string) {
	table, single := value.(map[string]any)
	list, many := value.([]any)
	if field.Kind() != reflect.Slice {
		if !single {
			l.fail(key, nil, "must be a table: write [%s]", key)
			return
		}
		l.table(field, table, key)
		return
	}
	if !many {
		l.fail(key, nil, "is a list of tables: write [[%s]], not [%s]", key, key)
		return
	}
	out := reflect.MakeSlice(field.Type(), len(list), len(list))
	for i, e := range list {
		table, ok := e.(map[string]any)
		if !ok {
			l.fail(key, nil, "is a list of tables: write [[%s]]", key)
			return
		}
		if listener, ok := out.Index(i).Addr().Interface().(*Listen); ok {
			*listener = defaultListen()
			listener.Address = ""
		}
		if p, ok := out.Index(i).Addr().Interface().(*Publish); ok {
			*p = defaultPublish()
		}
		l.table(out.Index(i), table, fmt.Sprintf("%s[%d]", key, i))
	}
	field.Set(out)
}

// setValue sets a field that is neither a table nor a list.
func (l *loader) setValue(v reflect.Value, value any, key string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		text, isText := value.(string)
		if n, isInt := value.(int64); isInt && (n == 0 || v.Type() == reflect.TypeFor[Size]()) {
			text, isText = fmt.Sprint(n), true // a number of bytes; zero needs no unit
		}
		if !isText {
			l.fail(key, nil, "must be %s", wanted(v.Type()))
		} else if err := u.UnmarshalText([]byte(text)); err != nil {
			l.fail(key, text, "%v", err)
		}
		return
	}
	got := reflect.ValueOf(value)
	if v.Kind() == reflect.Int && got.CanInt() && !v.OverflowInt(got.Int()) {
		v.SetInt(got.Int())
	} else if got.Kind() == v.Kind() {
		v.Set(got)
	} else {
		l.fail(key, nil, "must be %s", wanted(v.Type()))
	}
}

// wanted describes a value of a type as it is written in the file; example is one.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Size]():
		return "a size in quotes such as " + example(t)
	case reflect.TypeFor[Duration]():
		return "a time in quotes such as " + example(t)
	case reflect.TypeFor[Network]():
		return "a network in quotes such as " + example(t)
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "a text in quotes"
}

func example(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Size]():
		return `"50MiB"`
	case reflect.TypeFor[Duration]():
		return `"5m"`
	case reflect.TypeFor[Network]():
		return `"10.0.0.0/8"`
	}
	return `"a"`
}

// unknownKey notes a key that the table does not have.
func (l *loader) unknownKey(key string, table reflect.Type, name string) {
	problem := "there is no such key"
	if near := nearest(table, name); near != "" {
		problem += fmt.Sprintf("; did you mean %q?", near)
	}
	l.fail(key, nil, "%s", problem)
}

// nearest finds the key that was probably meant.
func nearest(table reflect.Type, word string) string {
	best, bestDistance := "", 1+len(word)/3
	for i := range table.NumField() {
		name := table.Field(i).Tag.Get("toml")
		if d := distance(word, name); name != "-" && d <= bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// distance is the number of letters to change, add or remove (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost = 1 + min(prev, row[j], row[j+1])
			}
			prev, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
