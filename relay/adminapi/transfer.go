package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/stsrelay/stsrelay/queue"
)

// Transfer is what an export file holds, or what an import made of it.
type Transfer struct {
	Messages   int      `json:"messages"` // whole; imported, with an import
	Octets     int64    `json:"octets"`   // of their bodies
	Present    int      `json:"present"`  // in the queue already: not imported
	Damaged    int      `json:"damaged"`
	Unreadable int      `json:"unreadable"` // damaged in the store, so not in the file
	Complete   bool     `json:"complete"`   // the end of the file is there
	Problems   []string `json:"problems,omitempty"`
	// Error says why an import ended before the end of the file.
	Error string `json:"error,omitempty"`
}

// Whole says that nothing is missing or damaged.
func (t *Transfer) Whole() bool { return t.Complete && t.Damaged == 0 && len(t.Problems) == 0 }

// NewTransfer is how the result of the queue is shown.
func NewTransfer(t queue.Transfer) Transfer {
	return Transfer{Messages: t.Messages, Octets: t.Octets, Present: t.Present, Damaged: t.Damaged,
		Unreadable: t.Unreadable, Complete: t.Complete, Problems: t.Problems}
}

// exportQueue streams the whole queue as docs/export-format.md describes.
func (s *Server) exportQueue(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	t, err := s.o.Queue.Export(r.Context(), w)
	if err != nil {
		s.o.Logger.Error("the export of the queue was cut short", "error", err)
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
	s.o.Logger.Info("queue exported by the operator", "messages", t.Messages, "octets", t.Octets, "unreadable", t.Unreadable)
}

// importQueue reads an export file from the body of the request.
func (s *Server) importQueue(w http.ResponseWriter, r *http.Request) {
	hold := ""
	if r.URL.Query().Get("hold") == "true" {
		hold = "imported on hold"
	}
	t, err := s.o.Queue.Import(r.Context(), r.Body, hold)
	out := NewTransfer(t)
	switch {
	case errors.Is(err, queue.ErrImporting):
		refuse(w, refusal{http.StatusConflict, err})
		return
	case errors.Is(err, queue.ErrNoExport):
		refuse(w, refusal{http.StatusUnprocessableEntity, err})
		return
	case err != nil:
		out.Error = err.Error()
	}
	s.o.Logger.Info("queue imported by the operator", "messages", t.Messages, "present", t.Present, "damaged", t.Damaged, "complete", t.Complete, "error", out.Error)
	answer(w, out)
}

// Export returns the stream of the whole queue, to be closed by the caller.
func (c *Client) Export(ctx context.Context) (io.ReadCloser, error) {
	return c.Open(ctx, http.MethodGet, "/v1/queue/export", nil, nil)
}

// Import sends an export file.
func (c *Client) Import(ctx context.Context, file io.Reader, hold bool) (Transfer, error) {
	query := url.Values{}
	if hold {
		query.Set("hold", "true")
	}
	var t Transfer
	body, err := c.send(ctx, http.MethodPost, "/v1/queue/import", query, file)
	if err != nil {
		return t, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&t); err != nil {
		return t, fmt.Errorf("the answer of the relay: %w", err)
	}
	return t, nil
}
