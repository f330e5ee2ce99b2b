//go:build linux

package main

import (
	"bufio"
	"bytes"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"strings"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// notice is a delivery status notification about one recipient.
type notice struct {
	to         string // the sender
	action     string
	diagnostic string
}

// notices are those that have come to the sink so far, by recipient.
type notices struct {
	byRecipient map[string][]notice
	read        int // messages of the sink
}

// take reads the delivery status notifications (RFC 3464, RFC 6533) that have come
// since the last time.
func (n *notices) take(messages []testnet.Message) {
	if n.byRecipient == nil {
		n.byRecipient = make(map[string][]notice)
	}
	for _, m := range messages[n.read:] {
		for _, g := range statusGroups(m.Data) {
			recipient := addressOf(g.Get("Final-Recipient"))
			if recipient == "" {
				continue
			}
			n.byRecipient[recipient] = append(n.byRecipient[recipient], notice{to: m.To, action: strings.ToLower(g.Get("Action")), diagnostic: strings.TrimSpace(g.Get("Status") + " " + g.Get("Diagnostic-Code"))})
		}
	}
	n.read = len(messages)
}

func addressOf(field string) string {
	_, address, _ := strings.Cut(field, ";")
	return strings.TrimSpace(address)
}

// statusGroups are the groups of fields in the part with the status.
func statusGroups(data []byte) (groups []textproto.MIMEHeader) {
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return nil
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := parts.NextPart()
		if err != nil {
			return nil
		}
		if !strings.Contains(part.Header.Get("Content-Type"), "delivery-status") {
			continue
		}
		r := textproto.NewReader(bufio.NewReader(part))
		for {
			g, err := r.ReadMIMEHeader()
			if len(g) > 0 {
				groups = append(groups, g)
			}
			if err != nil { // the end, or what is no field
				return groups
			}
		}
	}
}
