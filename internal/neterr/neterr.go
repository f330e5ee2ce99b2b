// Package neterr writes errors of package net for people.
package neterr

import (
	"net"
	"os"
	"strings"
)

// Plain returns err with a text that names no addresses: not the peer's, which the sentence
// around it names, and not that of this side, which differs each time. It returns nil for nil.
//
//	dial tcp 192.0.2.1:25: connect: connection refused → connection refused
//	read tcp 10.0.0.1:40312->192.0.2.1:25: i/o timeout → i/o timeout
func Plain(err error) error {
	if err == nil {
		return nil
	}
	text := shortened(err.Error(), err)
	if text == err.Error() {
		return err
	}
	return &plain{text, err}
}

type plain struct {
	text string
	err  error
}

func (p *plain) Error() string { return p.text }
func (p *plain) Unwrap() error { return p.err }

// shortened replaces the text of each *net.OpError in the tree of err by that of its cause.
func shortened(text string, err error) string {
	switch e := err.(type) { //nolint:errorlint // the tree is walked node by node
	case *net.OpError:
		if e.Net == "" { // of crypto/tls: an alert of the peer
			return text
		}
		cause := e.Err
		if call, ok := cause.(*os.SyscallError); ok { //nolint:errorlint // as above
			cause = call.Err
		}
		return strings.ReplaceAll(text, e.Error(), cause.Error())
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return shortened(text, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			text = shortened(text, inner)
		}
	}
	return text
}
