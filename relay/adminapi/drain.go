package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/stsrelay/stsrelay/relay/operator"
)

// drain streams how far the handing over of all mail is, a JSON value a line. It goes on as
// long as the client reads.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	var in operator.DrainRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	out, control := json.NewEncoder(w), http.NewResponseController(w)
	err := s.operator.Drain(r.Context(), actorOf(r.Context()), in, func(p operator.DrainProgress) {
		_ = out.Encode(p) // the context ends when the client has gone
		_ = control.Flush()
	})
	if err != nil {
		refuse(w, operator.HTTPStatus(err), err)
	}
}

// Drain hands all mail of the relay to another one, and calls progress with each report. The
// drain ends with ctx.
func (c *Client) Drain(ctx context.Context, r operator.DrainRequest, progress func(operator.DrainProgress)) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	body, err := c.Open(ctx, http.MethodPost, "/v1/drain", nil, data)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var p operator.DrainProgress
		if err := dec.Decode(&p); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("the relay has stopped, or the drain was cut off: %w", err)
		}
		progress(p)
		if p.Done {
			if p.Error != "" {
				return errors.New(p.Error)
			}
			return nil
		}
	}
}
