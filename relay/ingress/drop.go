package ingress

import (
	"context"
	"io"
	"strings"

	"github.com/stsrelay/stsrelay/internal/mailbox"
)

// Drop is an address whose mail is read here and not relayed. A message that has other
// recipients, too, is relayed to those.
type Drop struct {
	// Address is in the form of mailbox.String. Case does not matter.
	Address string
	// Take keeps a message, and returns when that is durable. It calls open whenever it
	// wants to read the content from its beginning. An error means that the client must try
	// again; Take itself refuses nothing.
	Take func(ctx context.Context, queueID string, open func() (io.Reader, error)) error
}

// is reports whether the drop has an address. What differs in case alone must not be relayed:
// it would come back.
func (d *Drop) is(m mailbox.Mailbox) bool {
	return d != nil && strings.EqualFold(m.String(), d.Address)
}

// takeDropped hands a message to the drop, if it is one of the recipients. The message is
// in the store as a whole, so that it takes no memory.
func (s *session) takeDropped(m *incoming) error {
	if s.drop == nil {
		return nil
	}
	return s.drop.Take(s.server.ctx(), m.in.ID().String(), m.in.Reader)
}
