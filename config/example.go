package config

import _ "embed" // for the example

// Example is a configuration file that shows every key.
//
//go:embed example.toml
var Example string
