// Package docs has the documents that the relay serves itself.
package docs

import _ "embed"

// OpenAPI describes the admin API (OpenAPI 3.1). A test of package adminapi holds it to
// the handlers and their answers.
//
//go:embed openapi.yaml
var OpenAPI string
