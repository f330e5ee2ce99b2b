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
