package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/stsrelay/stsrelay/queue"
)

// Trashed is a message, or a part of one, that the operator has removed.
type Trashed struct {
	ID         string    `json:"id"`
	From       string    `json:"from"`
	To         []string  `json:"to"` // the recipients that were removed
	Size       int64     `json:"size"`
	ReceivedAt time.Time `json:"received_at"`
	RemovedAt  time.Time `json:"removed_at"`
	// ExpiresAt is when it is deleted for good, at the latest.
	ExpiresAt time.Time `json:"expires_at"`
	// Active reports whether a delivery was under way: it may have been delivered.
	Active bool `json:"active"`
}

// Restored is what came of a restore: the IDs that the messages have now.
type Restored struct {
	IDs       []string `json:"ids"`
	Missing   []string `json:"missing,omitempty"`
	Ambiguous []string `json:"ambiguous,omitempty"`
}

func (s *Server) trashRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/trash", s.trash)
	mux.HandleFunc("POST /v1/trash/restore", s.restore)
	mux.HandleFunc("POST /v1/trash/empty", s.emptyTrash)
}

// trash streams what the operator has removed, the oldest removal first.
func (s *Server) trash(w http.ResponseWriter, r *http.Request) {
	a := &array{w: w}
	s.end(a, s.o.Queue.Trash(r.Context(), func(t queue.Trashed) bool {
		out := Trashed{ID: t.ID.String(), From: t.From, Size: t.Size, ReceivedAt: t.ReceivedAt.UTC(), RemovedAt: t.RemovedAt.UTC(), ExpiresAt: t.ExpiresAt().UTC(), Active: t.Active}
		for _, to := range t.Recipients {
			out.To = append(out.To, to.Address)
		}
		return a.add(out)
	}))
}

// restore puts messages back into the queue: those with the given IDs, or all.
func (s *Server) restore(w http.ResponseWriter, r *http.Request) {
	var sel Selection
	if err := json.NewDecoder(io.LimitReader(r.Body, 16<<20)).Decode(&sel); err != nil {
		refuse(w, refusal{http.StatusBadRequest, fmt.Errorf("the request is no selection: %w", err)})
		return
	}
	ids := sel.IDs
	if sel.All == (len(ids) > 0) {
		refuse(w, refusal{http.StatusBadRequest, errors.New("say which messages: ids, or all")})
		return
	}
	if sel.All {
		seen := make(map[string]bool)
		err := s.o.Queue.Trash(r.Context(), func(t queue.Trashed) bool {
			if id := t.ID.String(); !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
			return true
		})
		if err != nil {
			refuse(w, err)
			return
		}
	}
	out := Restored{IDs: []string{}}
	for _, id := range ids {
		back, err := s.o.Queue.Restore(r.Context(), id)
		for _, i := range back {
			out.IDs = append(out.IDs, i.String())
		}
		switch {
		case errors.Is(err, queue.ErrAmbiguous):
			out.Ambiguous = append(out.Ambiguous, id)
		case errors.Is(err, queue.ErrNotInTrash):
			out.Missing = append(out.Missing, id)
		case err != nil:
			refuse(w, err)
			return
		}
	}
	answer(w, out)
}

// emptyTrash deletes all that is in the trash.
func (s *Server) emptyTrash(w http.ResponseWriter, r *http.Request) {
	n, err := s.o.Queue.EmptyTrash(r.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	s.o.Logger.Info("the trash was emptied by the operator", "messages", n)
	answer(w, Touched{Touched: n})
}
