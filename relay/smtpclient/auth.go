package smtpclient

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
)

// ErrNoAuth is returned where the host offers neither AUTH PLAIN nor AUTH LOGIN.
var ErrNoAuth = errors.New("the host offers neither AUTH PLAIN nor AUTH LOGIN")

// Auth logs in (RFC 4954). The caller makes sure that the session is encrypted.
// The error is ErrNoAuth, a *ReplyError with Step "AUTH", or of the connection.
func (c *Client) Auth(ctx context.Context, user, password string) error {
	offered := strings.Fields(strings.ToUpper(c.ext["AUTH"]))
	for _, m := range offered {
		switch m {
		case sasl.Plain:
			return c.auth(ctx, sasl.NewPlainClient("", user, password))
		case sasl.Login:
			return c.auth(ctx, sasl.NewLoginClient(user, password))
		}
	}
	return ErrNoAuth
}

func (c *Client) auth(ctx context.Context, mech sasl.Client) error {
	defer c.watch(ctx)()
	name, initial, err := mech.Start()
	if err != nil {
		return fmt.Errorf("AUTH: %w", err)
	}
	line := "AUTH " + name
	shown := line
	if initial != nil {
		line += " " + encode(initial)
		shown += " ***"
	}
	for {
		c.writeShown(line, shown)
		if err := c.flush("AUTH"); err != nil {
			return ctxError(ctx, err)
		}
		r, err := c.read("AUTH", c.timeouts.Mail)
		if err != nil {
			return ctxError(ctx, err)
		}
		if r.Code == 235 {
			return nil
		}
		if r.Code != 334 {
			return &ReplyError{Step: "AUTH", Reply: r}
		}
		challenge, err := base64.StdEncoding.DecodeString(r.Lines[0])
		if err != nil {
			challenge = nil // LOGIN needs none, and PLAIN has none
		}
		response, err := mech.Next(challenge)
		if err != nil {
			_, _ = c.command("AUTH", c.timeouts.Mail, "*") // gives the exchange up
			return fmt.Errorf("AUTH %s: %w", name, err)
		}
		line, shown = encode(response), "***"
	}
}

func encode(b []byte) string {
	if len(b) == 0 {
		return "=" // RFC 4954, 4: an empty initial response
	}
	return base64.StdEncoding.EncodeToString(b)
}
