package config

import (
	"encoding/json"
	"io"
	"reflect"

	"github.com/pelletier/go-toml/v2"
)

// masked stands for secrets wherever the configuration is shown.
const masked = "…"

func (c *Config) withoutSecrets() *Config {
	out := *c
	out.Users = append([]User(nil), c.Users...)
	for i := range out.Users {
		out.Users[i].PasswordHash = masked
	}
	return &out
}

// Print writes the configuration in force as TOML, password hashes masked.
func (c *Config) Print(w io.Writer) error {
	e := toml.NewEncoder(w)
	e.SetIndentTables(false)
	return e.Encode(c.withoutSecrets())
}

// PrintChanged is Print for the keys that have other values than their defaults. A
// configuration of them is the same one.
func (c *Config) PrintChanged(w io.Writer) error {
	d := Default()
	l := &loader{config: &d}
	d.Hostname, d.File, d.TLSRPT.Contact = c.Hostname, c.File, ""
	l.complete()
	own, err := asTables(c.withoutSecrets())
	if err != nil {
		return err
	}
	standard, err := asTables(&d)
	if err != nil {
		return err
	}
	changed := differences(own, standard)
	if changed["hostname"] == nil {
		changed["hostname"] = c.Hostname // others are derived from it
	}
	e := toml.NewEncoder(w)
	e.SetIndentTables(false)
	return e.Encode(changed)
}

// asTables returns the configuration as the maps of a TOML decoder.
func asTables(c *Config) (out map[string]any, err error) {
	text, err := toml.Marshal(c)
	if err == nil {
		err = toml.Unmarshal(text, &out)
	}
	return out, err
}

// differences returns what is in own and not the same in standard. Lists of tables stand
// whole, each table without what is empty or as in the standard's first one.
func differences(own, standard map[string]any) map[string]any {
	out := make(map[string]any)
	for key, value := range own {
		other := standard[key]
		if reflect.DeepEqual(value, other) {
			continue
		}
		switch value := value.(type) {
		case map[string]any:
			table, _ := other.(map[string]any)
			out[key] = differences(value, table)
		case []any:
			if len(value) == 0 && other == nil {
				continue
			}
			out[key] = tables(value, other)
		default:
			if v := reflect.ValueOf(value); other != nil || !v.IsZero() {
				out[key] = value
			}
		}
	}
	return out
}

// tables is differences for a list, which is returned as it is where it is none of tables.
func tables(list []any, standard any) any {
	first := map[string]any{}
	if others, ok := standard.([]any); ok && len(others) > 0 {
		first, _ = others[0].(map[string]any)
	}
	out := make([]map[string]any, 0, len(list))
	for _, e := range list {
		table, ok := e.(map[string]any)
		if !ok {
			return list
		}
		own := differences(table, first)
		if address, ok := table["address"]; ok {
			own["address"] = address // which listener it is
		}
		out = append(out, own)
	}
	return out
}

// PrintJSON is Print as JSON.
func (c *Config) PrintJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	out := c.withoutSecrets()
	emptyNotNull(reflect.ValueOf(out).Elem())
	return e.Encode(out)
}

// emptyNotNull makes lists that are nil empty ones, which JSON shows as lists.
func emptyNotNull(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct && isTable(v.Type()):
		for i := range v.NumField() {
			emptyNotNull(v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		list := reflect.MakeSlice(v.Type(), v.Len(), v.Len()) // the original stays as it is
		reflect.Copy(list, v)
		for i := range list.Len() {
			emptyNotNull(list.Index(i))
		}
		v.Set(list)
	}
}
