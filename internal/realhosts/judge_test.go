//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// kindsOf are the first words of faults.
func kindsOf(faults []string) (kinds []string) {
	for _, f := range faults {
		kind, _, _ := strings.Cut(f, ":")
		kinds = append(kinds, kind)
	}
	return kinds
}

// The judge must see what it is there for.
func TestJudge(t *testing.T) {
	const here = "good-x-1-0@x.example"
	arrived := func(from, content string) arrival {
		return arrival{from: from, hash: sha256.Sum256([]byte(content))}
	}
	failed := func(to string) notice { return notice{to: to, action: "failed"} }
	for _, tt := range []struct {
		name     string
		end      string
		arrivals []arrival
		told     []notice
		unknown  bool // the host was killed before it confirmed
		want     []string
	}{
		{"arrived", arrives, []arrival{arrived("a@s.example", "1")}, nil, false, nil},
		{"out of the host's queue twice", arrives, []arrival{arrived("a@s.example", "1"), arrived("a@s.example", "1")}, nil, false, nil},
		{"sent twice", arrives, []arrival{arrived("a@s.example", "1"), arrived("a@s.example", "2")}, nil, false, []string{"twice"}},
		{"sent twice, not confirmed", arrives, []arrival{arrived("a@s.example", "1"), arrived("a@s.example", "2")}, nil, true, nil},
		{"lost", arrives, nil, nil, false, []string{"lost"}},
		{"bounced", arrives, nil, []notice{failed("a@s.example")}, false, []string{"bounced"}},
		{"arrived and bounced", arrives, []arrival{arrived("a@s.example", "1")}, []notice{failed("a@s.example")}, false, []string{"told wrongly"}},
		{"under another's name", arrives, []arrival{arrived("b@s.example", "1")}, nil, false, []string{"wrong sender"}},
		{"refused", bounces, nil, []notice{failed("a@s.example")}, false, nil},
		{"refused, not told", bounces, nil, nil, false, []string{"not told"}},
		{"refused, told twice", bounces, nil, []notice{failed("a@s.example"), failed("a@s.example")}, false, []string{"told too often"}},
		{"refused, told another", bounces, nil, []notice{failed("b@s.example")}, false, []string{"told another"}},
		{"refused, a warning only", bounces, nil, []notice{{to: "a@s.example", action: "delayed"}}, false, []string{"told wrongly"}},
		{"delivered where it must be refused", bounces, []arrival{arrived("a@s.example", "1")}, []notice{failed("a@s.example")}, false, []string{"delivered"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{seen: newArrivals(), told: notices{byRecipient: map[string][]notice{here: tt.told}}}
			w.seen.byRecipient[here] = tt.arrivals
			s := &service{Domain: "x.example", host: &host{}}
			m := &message{token: "x-1", service: s, from: "a@s.example", recipients: []recipient{{address: here, end: tt.end}}}
			log := &relayLog{unknown: map[string]bool{here: tt.unknown}}
			if got := kindsOf(w.judge(s, []*message{m}, log).faults); !slices.Equal(got, tt.want) {
				t.Errorf("faults %q, want %q", got, tt.want)
			}
		})
	}
}

func TestContentFaults(t *testing.T) {
	noKey := func(string) ([]string, error) { return nil, errors.New("no such name") }
	m := &message{token: "x-1", kind: "lone dots", service: &service{}}
	m.write("7bit", ".\r\n..\r\nlast\r\n")
	long := &message{token: "x-2", rewritten: true, service: &service{}}
	long.write("7bit", strings.Repeat("y", 100)+"\r\n")
	with := func(m *message, old, new string) []byte {
		return append([]byte("Received: by x\n"), strings.ReplaceAll(strings.ReplaceAll(string(m.content), "\r\n", "\n"), old, new)...)
	}
	for _, tt := range []struct {
		name string
		m    *message
		got  []byte
		want []string
	}{
		{"a trace field and other line ends", m, with(m, "", ""), []string{"signature"}},
		{"a dot too many", m, with(m, "\n..\n", "\n...\n"), []string{"changed", "signature"}},
		{"a line is gone", m, with(m, "last\n", ""), []string{"changed", "signature"}},
		{"encoded anew", long, bytes.Replace(with(long, "yyyyy\nThis", "yyy=\nyy\nThis"), []byte("7bit"), []byte("quoted-printable"), 1), []string{"signature"}},
		{"encoded anew, and less", long, bytes.Replace(with(long, "yyyyy\nThis", "yyy=\nThis"), []byte("7bit"), []byte("quoted-printable"), 1), []string{"changed", "signature"}},
		{"another encoding without need", m, with(m, "7bit", "quoted-printable"), []string{"changed", "signature"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := kindsOf(contentFaults(tt.m, tt.got, true, noKey)); !slices.Equal(got, tt.want) {
				t.Errorf("faults %q, want %q", contentFaults(tt.m, tt.got, true, noKey), tt.want)
			}
		})
	}
}

func TestNotices(t *testing.T) {
	const text = "From: a\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n" +
		"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; a@x.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n" +
		"Final-Recipient: utf-8; ü@x.example\r\nAction: Failed\r\nStatus: 5.1.1\r\n--b--\r\n"
	var n notices
	for range 2 { // the second time there is nothing new
		n.take([]testnet.Message{{To: "s@s.example", Data: []byte(text)}})
	}
	for _, r := range []string{"a@x.example", "ü@x.example"} {
		if got := n.byRecipient[r]; len(got) != 1 || got[0] != (notice{to: "s@s.example", action: "failed", diagnostic: "5.1.1"}) {
			t.Errorf("%s: %+v", r, got)
		}
	}
}
