package main

import (
	"regexp"
	"strings"
	"testing"
)

func TestADomainIsPausedForATime(t *testing.T) {
	file, ids := operated(t)
	do := func(line string) result {
		t.Helper()
		return command(t, "", append(strings.Fields(line), "--config", file)...)
	}
	for _, row := range []struct {
		line   string
		status int
		want   string // a pattern of standard output, or of the error
	}{
		{"queue pause --domain one.example --for 2h", 0, `^delivery to one.example paused until 20\S+ \S+Z, for 2h 0m\n$`},
		{"queue pause --domain two.example", 0, `^delivery to two.example paused until it is resumed\n$`},
		{"queue resume", 0, `^delivery resumed\ndelivery to one.example is paused until 20\S+ \S+Z, for \S+ \S+; to end it: stsrelay queue resume --domain one.example\ndelivery to two.example is paused: nothing is tried before stsrelay queue resume --domain two.example\n$`},
		{"status", 0, `up \S+: accepting, delivering\n(.*\n)*paused    one.example until 20.*, for 2h 0m\npaused    two.example until it is resumed\n`},
		{"queue list --domain one.example", 0, `  0    paused 1h 59m  new\n`},
		{"queue list --domain two.example", 0, `  0    paused  new\n`},
		{"queue summary", 0, `one.example +1 +1 +\d+s +paused 1h 59m`},
		{"queue show " + ids[0], 0, `next      paused 1h 59m, not tried yet\n(.*\n)*to        kurt@one.example  queued, not tried yet\n            next   paused until 20`},
		{"queue retry " + ids[0], 0, `delivery to one.example is paused until`},
		{"queue show " + ids[1] + " --json", 0, `"next_attempt_at": null`},
		{"top", 0, `one.example +1 +0/\d+ +\S+ +paused 1h 59m\n`},
		{"queue resume --domain one.example --json", 0, `"resumed": true`},
		{"queue resume --domain one.example", 0, `^delivery to one.example was not paused\n`},
		{"queue pause --for 0s", 2, "--for must be more than 0"},
		{"queue pause --for 9000h", 2, "at most a year"},
		{"queue pause --domain one..example", 2, "one..example"},
		{"queue pause --for 1h --json", 0, `"paused": true,\n  "domain": "",\n`},
		{"queue summary", 0, `delivery is paused until 20.*, for 1h 0m; to end it: stsrelay queue resume\n`},
	} {
		r := do(row.line)
		if !regexp.MustCompile(row.want).MatchString(r.out+r.err) || r.status != row.status {
			t.Errorf("%s: %+v\nwant %s", row.line, r, row.want)
		}
	}
}
