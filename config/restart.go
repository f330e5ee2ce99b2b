package config

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

// KeepRunning copies the values that cannot change before the next start (the fields with
// the tag restart) from the running configuration, and returns the keys that had other
// values in c. After it c is the configuration in force, with which the next reload is
// compared.
func (c *Config) KeepRunning(running *Config) (changed []string) {
	changed = keepTagged(reflect.ValueOf(c).Elem(), reflect.ValueOf(running).Elem(), "")
	if c.keepListeners(running) {
		changed = append(changed, "listen (address, tls, min_tls, proxy_protocol)")
	}
	slices.Sort(changed)
	return slices.Compact(changed) // a file may have another name and other content
}

// keepTagged is KeepRunning for the keys of one table.
func keepTagged(next, running reflect.Value, path string) (changed []string) {
	for i := range next.NumField() {
		field := next.Type().Field(i)
		key := strings.TrimPrefix(path+"."+field.Tag.Get("toml"), ".")
		name, tagged := field.Tag.Lookup("restart")
		switch {
		case tagged:
			if !reflect.DeepEqual(next.Field(i).Interface(), running.Field(i).Interface()) {
				changed = append(changed, cmp.Or(name, key))
			}
			next.Field(i).Set(running.Field(i))
		case field.Type.Kind() == reflect.Struct && isTable(field.Type):
			changed = append(changed, keepTagged(next.Field(i), running.Field(i), key)...)
		}
	}
	return changed
}

// keepListeners copies the running listeners. Each gets the rules that c has for its
// address, else it keeps its own. It reports whether the next start brings other
// listeners.
func (c *Config) keepListeners(running *Config) (changed bool) {
	listen := slices.Clone(running.Listen)
	changed = len(listen) != len(c.Listen)
	for i, old := range listen {
		at := slices.IndexFunc(c.Listen, func(l Listen) bool { return l.Address == old.Address })
		if at < 0 {
			changed = true
			continue
		}
		now := c.Listen[at]
		changed = changed || now.TLS != old.TLS || now.MinTLS != old.MinTLS || !slices.Equal(now.ProxyProtocol, old.ProxyProtocol)
		now.TLS, now.MinTLS, now.ProxyProtocol = old.TLS, old.MinTLS, old.ProxyProtocol
		now.RequireTLS = now.RequireTLS && now.TLS != "none" // TLS comes with the next start, and nobody could send until then
		listen[i] = now
	}
	c.Listen = listen
	return changed
}
