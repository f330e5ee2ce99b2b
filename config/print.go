package config

import (
	"encoding/json"
	"io"

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
	return e.Encode(c.withoutSecrets())
}
