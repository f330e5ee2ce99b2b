package postgres

import (
	"context"
	_ "embed"
	"fmt"
)

//go:embed schema.sql
var schema string

// Init makes the schema in the database of url, if it is not there. It reports whether it
// has made it. It refuses a server that is not as replication wants it.
func Init(ctx context.Context, url string, replication Replication) (made bool, err error) {
	config, err := parse(url)
	if err != nil {
		return false, err
	}
	c, err := connect(ctx, config, "fleet init")
	if err != nil {
		return false, err
	}
	defer c.close()
	if err := inspectServer(c, replication); err != nil {
		return false, err
	}
	v, _, err := version(c)
	if err != nil {
		return false, err
	}
	if v > schemaVersion {
		return false, inspect(c, replication)
	}
	if v == schemaVersion {
		return false, nil
	}
	// One string of statements is one transaction.
	if err := c.exec(sqlTimeout, schema); err != nil {
		return false, fmt.Errorf("make the schema: %w", err)
	}
	return true, nil
}
