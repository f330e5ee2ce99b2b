package postgres

import (
	"errors"
	"fmt"
	"strings"
)

// Replication is what the configuration says of copies of the data.
type Replication string

const (
	// Required asks for synchronous standbys: no message is acknowledged that one disk
	// alone has.
	Required Replication = "required"
	// Managed leaves copies to the provider, who does not show them.
	Managed Replication = "managed"
	// None accepts that one disk has the mail.
	None Replication = "none"
)

// schemaVersion is the version of schema.sql.
const schemaVersion = 1

// leastServer is PostgreSQL 15.
const leastServer = 150000

// ErrSettings is wrapped by the error about a server that is not as the configuration
// wants it.
var ErrSettings = errors.New("PostgreSQL is not set up for mail")

// inspect returns an error if the server of c may lose what it has acknowledged, or if its
// schema is not the one that this program knows.
func inspect(c *conn, replication Replication) error {
	if err := inspectServer(c, replication); err != nil {
		return err
	}
	v, least, err := version(c)
	if err != nil {
		return err
	}
	switch {
	case v == 0:
		return fmt.Errorf("%w: the database has no schema of stsrelay; make it with: stsrelay fleet init", ErrSettings)
	case least > schemaVersion:
		return fmt.Errorf("%w: the schema has version %d, made by a newer stsrelay, and serves those that know %d or more; this one knows %d: update this relay", ErrSettings, v, least, schemaVersion)
	}
	return nil
}

// inspectServer returns an error if the server may lose what it has acknowledged.
func inspectServer(c *conn, replication Replication) error {
	var is settings
	if err := c.query(sqlTimeout, sqlSettings, nil, is.read); err != nil {
		return err
	}
	return is.check(replication)
}

// settings are those of a server that decide what a commit is worth.
type settings struct {
	server                             int64
	fsync, fullPages, commit, standbys string
}

const sqlSettings = `select current_setting('server_version_num'), current_setting('fsync'), current_setting('full_page_writes'),
	current_setting('synchronous_commit'), current_setting('synchronous_standby_names')`

func (s *settings) read(row [][]byte) {
	s.server, s.fsync, s.fullPages, s.commit, s.standbys = integer(row[0]), string(row[1]), string(row[2]), string(row[3]), string(row[4])
}

// check returns an error if a server with these settings may lose what it has acknowledged.
func (s *settings) check(replication Replication) error {
	var wrong []string
	if s.server < leastServer {
		wrong = append(wrong, fmt.Sprintf("the server has version %d, and 15 is the least", s.server/10000))
	}
	if s.fsync != "on" {
		wrong = append(wrong, "fsync is off: set fsync = on")
	}
	if s.fullPages != "on" {
		wrong = append(wrong, "full_page_writes is off: set full_page_writes = on")
	}
	if s.commit != "on" && s.commit != "remote_apply" {
		wrong = append(wrong, fmt.Sprintf("synchronous_commit is %s: set synchronous_commit = on", s.commit))
	}
	if strings.TrimSpace(s.standbys) == "" && replication == Required {
		wrong = append(wrong, `synchronous_standby_names is empty, so that one disk has the mail: set it, such as 'ANY 1 (*)', or set queue.replication to "managed" if your provider replicates, or to "none" if one disk is enough`)
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrSettings, strings.Join(wrong, "; "))
}

// version returns the version of the schema, 0 for none, and the oldest one whose programs
// can work with it.
func version(c *conn) (v, least int64, err error) {
	there := false
	err = c.query(sqlTimeout, `select to_regclass('stsrelay.version') is not null`, nil, func(row [][]byte) { there = string(row[0]) == "t" })
	if err != nil || !there {
		return 0, 0, err
	}
	err = c.query(sqlTimeout, "select number, least from stsrelay.version", nil, func(row [][]byte) { v, least = integer(row[0]), integer(row[1]) })
	return v, least, err
}
