package config

import (
	"strings"
	"time"
)

// checkQueue checks where the queue is kept, and who shares it.
func (l *loader) checkQueue() {
	c := l.config
	l.oneOf("queue.engine", c.Queue.Engine, "badger", "postgres")
	l.oneOf("queue.replication", c.Queue.Replication, "required", "managed", "none")
	if term := time.Duration(c.Fleet.Term); term < 10*time.Second || term > 5*time.Minute {
		l.fail("fleet.term", c.Fleet.Term, "must be between 10s and 5m: a shorter one is lost by a slow commit, and the mail of a relay that has died waits for the end of a longer one")
	}
	if strings.ContainsAny(c.Fleet.Name, " /\t\r\n") {
		l.fail("fleet.name", c.Fleet.Name, "must have no blank and no slash")
	}
	if !c.Shared() {
		if c.Queue.URLFile != "" {
			l.warn("queue.url_file is not used: queue.engine is %q", c.Queue.Engine)
		}
		return
	}
	if c.Queue.URLFile == "" {
		l.fail("queue.url_file", nil, "is missing: it names a file with the URL of PostgreSQL, such as postgres://user:password@host/database")
		return
	}
	if _, err := ReadSecret(c.Queue.URLFile); err != nil {
		l.fail("queue.url_file", c.Queue.URLFile, "%v: it must hold the URL of PostgreSQL", err)
	}
}
