package config

import (
	"reflect"
	"slices"
	"strings"
)

// KeepRunning puts the values of the running configuration into next where a change
// needs a restart. These keys have the tag `restart`, which holds the name that the
// operator is told. It returns the names of those with another value in next. So
// next becomes what is in force, and the next reload is compared with that.
func KeepRunning(running, next *Config) (changed []string) {
	changed = keep(reflect.ValueOf(running).Elem(), reflect.ValueOf(next).Elem())
	if name, ok := keepListeners(running, next); ok {
		changed = append(changed, name)
	}
	slices.Sort(changed)
	return changed
}

// keep is KeepRunning for the keys of a struct that have the tag themselves.
func keep(running, next reflect.Value) (changed []string) {
	for i := range running.NumField() {
		key, old, now := running.Type().Field(i), running.Field(i), next.Field(i)
		switch name := key.Tag.Get("restart"); {
		case name != "":
			none := old.Kind() == reflect.Slice && old.Len()+now.Len() == 0 // nil or empty
			if !none && !reflect.DeepEqual(old.Interface(), now.Interface()) {
				changed = append(changed, name)
			}
			now.Set(old)
		case key.Type.Kind() == reflect.Struct && key.IsExported():
			changed = append(changed, keep(old, now)...)
		}
	}
	return changed
}

// keepListeners keeps the listeners that run: each gets the rules that next has for
// its address, or else keeps its old ones. Of the keys of a listener, those with the
// tag stay. It reports whether next has other listeners, or other values of these keys.
func keepListeners(running, next *Config) (name string, changed bool) {
	listen := slices.Clone(running.Listen)
	changed = len(listen) != len(next.Listen)
	for i, old := range listen {
		at := slices.IndexFunc(next.Listen, func(l Listen) bool { return l.Address == old.Address })
		if at < 0 {
			changed = true
			continue
		}
		now := next.Listen[at]
		if len(keep(reflect.ValueOf(&old).Elem(), reflect.ValueOf(&now).Elem())) > 0 {
			changed = true
		}
		listen[i] = now
	}
	next.Listen = listen
	return "listen (" + strings.Join(restartKeys[Listen](), ", ") + ")", changed
}

// restartKeys returns the names of the keys of a struct that have the tag.
func restartKeys[T any]() (names []string) {
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("restart"); name != "" {
			names = append(names, name)
		}
	}
	return names
}
